"""The programs of the documents, run as they stand there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli import api
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.description import ModelDescription
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.arrays import rounded_levels
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.layers.convert import quantized_layers
from passionsr_cli.layers.products import QuantizedLayer
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.system.devices import accelerator
from passionsr_cli.tiling import upscaler

ROOT = Path(__file__).parents[2]
EXPORTS, FORMAT = ROOT / "passionsr_cli/export/README.md", ROOT / "docs/checkpoint-format.md"


def _program(page: Path, marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert found
    return found[1]


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize("bits", ["w6a6", "w8a8", "w3a4"])
def test_packed_weights_are_read(calibrate: Callable[..., str], bits: str, tmp_path: Path) -> None:
    api.export(calibrate(bits), "safetensors", tmp_path / "out")
    names: dict[str, Any] = {}
    exec(_program(FORMAT, "read packed weights"), names)
    read = names["read_weights"](tmp_path / "out")
    model = load_checkpoint(find_checkpoint(bits))
    layers = {n: x for n, x in quantized_layers(model).items() if isinstance(x, QuantizedLayer)}
    assert read.keys() == layers.keys()
    for name, layer in layers.items():
        assert np.allclose(read[name], layer.weight.detach().numpy(), rtol=1e-6, atol=0)


@pytest.mark.usefixtures("small_photograph")
def test_packed_weights_beside_branches_are_read(
    calibrate: Callable[..., str], tmp_path: Path
) -> None:
    own = {"module": None, "end_to_end": None, "ranks": {"linear": 4}}
    name = calibrate("w2a2", method="qartsr", method_settings={"qartsr": own})
    api.export(name, "safetensors", tmp_path / "out")
    names: dict[str, Any] = {}
    exec(_program(FORMAT, "read packed weights"), names)
    assert names["read_weights"](tmp_path / "out")


@pytest.fixture
def dials_folder(dial_description: ModelDescription, tmp_path: Path) -> Path:
    """A model with all that a program has to heed: two UNets, their λ, and a margin."""
    values = dial_description.model_dump()
    values["unet"]["out_channels"] = 4
    values.update(name="tiny-dials", unets=2, pixel_strength=1.5, margin_px=12)
    model = OneStepModel(ModelDescription.model_validate(values)).eval()
    torch.nn.init.normal_(model.context)
    loading.save(tmp_path / "tiny-dials", model, {})
    return tmp_path / "tiny-dials"


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize(("of", "size"), [("least_folder", (3, 14)), ("dials_folder", (17, 14))])
def test_the_openvino_export_runs_alone(
    of: str,
    size: tuple[int, int],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = str(request.getfixturevalue(of))
    folder = tmp_path / "mini-w8a8-openvino"
    api.export(model, "openvino", folder)
    monkeypatch.chdir(tmp_path)
    small = samples.low_resolution("sample:astronaut")[:, 40 : 40 + size[0], 50 : 50 + size[1]]
    levels = rounded_levels(small)
    Image.fromarray(levels.transpose(1, 2, 0)).save("photo.png")
    exec(_program(EXPORTS, "run the OpenVINO export"), {})
    found = np.asarray(Image.open("photo_x4.png"), np.float32).transpose(2, 0, 1) / 255
    monkeypatch.setattr(upscaler, "SMALLEST_SIDE_PX", 1)
    executor = TorchExecutor(loading.load(model), accelerator("cpu", "fp32"))
    wanted = upscaler.TiledUpscaler(executor, 0).upscale(levels.astype(np.float32) / 255).rgb
    assert found.shape == wanted.shape == (3, 4 * size[0], 4 * size[1])
    # The file rounds to 8 bits.
    assert np.abs(found - wanted).max() < 0.6 / 255
