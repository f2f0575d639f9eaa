"""The programs of the documents, run as they stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_reader import upscaled
from PIL import Image

from passionsr_cli import api
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.description import ModelDescription
from passionsr_cli.exports.fidelity import psnr
from passionsr_cli.imaging import samples
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.layers.convert import quantized_layers
from passionsr_cli.layers.products import QuantizedLayer
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.arrays import rounded_levels
from passionsr_cli.pixels.resampling import bicubic
from passionsr_cli.system.devices import open_device
from passionsr_cli.tiling import upscaler
from passionsr_cli.tiling.plain_areas import with_plain_areas

ROOT = Path(__file__).parents[2]
EXPORTS, FORMAT = ROOT / "passionsr_cli/exports/README.md", ROOT / "docs/checkpoint-format.md"


def _program(page: Path, marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert found
    return found[1]


BRANCHES = {
    "method": "qartsr",
    "method_settings": {
        "qartsr": {"module": None, "end_to_end": None, "ranks": {"linear": 4, "convolution": 4}}
    },
}
SHIFTS = {
    "method": "passionsr",
    "method_settings": {
        "passionsr": {"channel_shift": "all", "component": {"steps": 2, "learning_rate": 1.0}}
    },
}


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize(
    ("bits", "settings"),
    [("w6a6", {}), ("w8a8", {}), ("w3a4", {}), ("w2a2", BRANCHES), ("w4a4", SHIFTS)],
)
def test_a_packed_checkpoint_is_read(
    calibrate: Callable[..., str], bits: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    api.export(calibrate(bits, **settings), "safetensors", tmp_path / "out")
    read = _read_weights(tmp_path / "out")
    model = load_checkpoint(find_checkpoint(bits))
    layers = {n: x for n, x in quantized_layers(model).items() if isinstance(x, QuantizedLayer)}
    assert read.keys() == layers.keys()
    for name, layer in layers.items():
        assert read[name].dtype == np.float32
        assert np.array_equal(read[name], layer.weight.detach().numpy())
    _assert_same_image(tmp_path / "out", model)


def test_the_embedded_checkpoint_is_read() -> None:
    checkpoint = find_checkpoint("mini-w8a8")
    _assert_same_image(checkpoint.folder, load_checkpoint(checkpoint))


@pytest.mark.usefixtures("small_photograph")
def test_a_packed_model_is_read(dial_folder: Path, tmp_path: Path) -> None:
    api.export(str(dial_folder), "safetensors", tmp_path / "out")
    assert _read_weights(tmp_path / "out") == {}
    _assert_same_image(tmp_path / "out", loading.load(str(dial_folder)))


def test_released_numerics_are_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"kind": "checkpoint", "numerics": "released"}')
    with pytest.raises(ValueError, match="released"):
        _read_weights(tmp_path)


def test_the_checksum_is_made_as_the_page_says(tmp_path: Path, least_model: OneStepModel) -> None:
    entry = loading.save(tmp_path / "model", least_model, {"note": "×4, größer, 𝄞"})
    manifest = json.loads((entry.folder / "manifest.json").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(_program(FORMAT, "checksum"), names)
    assert names["checksum"](manifest) == manifest["checksum"]


def _read_weights(folder: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(_program(FORMAT, "read packed weights"), names)
    read: dict[str, Any] = names["read_weights"](folder)
    return read


def _assert_same_image(folder: Path, model: OneStepModel) -> None:
    """What the reader makes of a photograph is what the definition makes of it."""
    lr = samples.low_resolution("sample:astronaut")[:, 40:56, 50:66]
    x = torch.from_numpy(bicubic(lr, (64, 64)).clip(0, 1))[None]
    with torch.no_grad():
        wanted = model(x)
    near = psnr(upscaled(folder, x).numpy(), wanted.numpy())
    # Sums in another order would leave 64 dB, attention without its channels' scales no more.
    assert near is None or near > 80


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
    executor = TorchExecutor(loading.load(model), open_device("cpu", "fp32"))
    wanted = upscaler.TiledUpscaler(executor, 0).upscale(levels.astype(np.float32) / 255).rgb
    assert found.shape == wanted.shape == (3, 4 * size[0], 4 * size[1])
    # The file rounds to 8 bits.
    assert np.abs(found - wanted).max() < 0.6 / 255


def test_plain_areas_are_what_the_page_says() -> None:
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :37].astype(np.float32)
    planes = np.stack([60 + 2 * columns - rows, 200 - 3 * columns, 90 + columns])
    # From left to right: a gradient, one with a little noise, one colour, texture.
    planes[:, :, 10:20] += draw.random((40, 10), np.float32)
    planes[:, :, 20:29] = 120
    planes[:, :, 29:] += 40 * draw.random((40, 8), np.float32)
    names: dict[str, Any] = {}
    exec(_program(EXPORTS, "plain areas"), names)
    for photo in (planes / 255, planes[:, :1, :9] / 255):
        shape = (3, 4 * photo.shape[1], 4 * photo.shape[2])
        ones, zeros = np.ones(shape, np.float32), np.zeros(shape, np.float32)
        for result in (ones, zeros):
            (wanted,) = with_plain_areas(iter([result]), photo, 4, 2)
            found = names["with_plain_areas"](result, photo, 2)
            np.testing.assert_allclose(found, wanted, atol=1e-4)
