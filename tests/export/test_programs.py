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
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.arrays import rounded_levels
from passionsr_cli.layers.convert import quantized_layers
from passionsr_cli.layers.products import QuantizedLayer
from passionsr_cli.models import loading

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


@pytest.mark.parametrize("of", ["least_folder", "dial_folder"])
def test_the_openvino_export_runs_alone(
    of: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(request.getfixturevalue(of))
    folder = tmp_path / "mini-w8a8-openvino"
    api.export(model, "openvino", folder, size=64)
    monkeypatch.chdir(tmp_path)
    small = samples.low_resolution("sample:astronaut")[:, 40:56, 50:66]
    pixels = rounded_levels(small).transpose(1, 2, 0)
    Image.fromarray(pixels).save("photo.png")
    exec(_program(EXPORTS, "run the OpenVINO export"), {})
    found = np.asarray(Image.open("photo_x4.png"), np.float32) / 255
    assert found.shape == (64, 64, 3)
    large = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.asarray(large, np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        wanted = loading.load(model)(x)[0].clamp(0, 1)
    # The file rounds to 8 bits.
    assert np.abs(found.transpose(2, 0, 1) - wanted.numpy()).max() < 0.6 / 255
