from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calibrating import Finished
from safetensors.torch import load_file, save_file

from passionsr_cli import api
from passionsr_cli.calibration import curves
from passionsr_cli.checkpoints import catalogue
from passionsr_cli.checkpoints import tensors as packed
from passionsr_cli.checkpoints.catalogue import Checkpoint, check_origin, find_checkpoint
from passionsr_cli.checkpoints.curve_file import read_curve
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.checkpoints.unfinished import run_folder
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ModelError, OutputError, PassionSRError, StoreError
from passionsr_cli.layers.convert import frozen_layers
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.models.loading import save
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.store import CHECKPOINT, Store, checksum, write_entry
from passionsr_cli.system.files import sha256_of

QUICK_QARTSR = {
    "module": {"steps": 1, "learning_rate": 0.1},
    "end_to_end": {"steps": 2, "learning_rate": 0.1},
    "ranks": {"linear": 4, "convolution": 4},
    "merged_ranks": {"linear": 2, "convolution": 2},
}


def _settings(model: Path, **changes: Any) -> CalibrationSettings:
    fits = {
        key: {"steps": 2, "learning_rate": 0.01} for key in ("component", "let", "lbq", "joint")
    }
    values = {
        "model": str(model),
        "unet": "w6a6",
        "vae": "w4a8",
        "crops": 2,
        "crop_px": 32,
        "device": "cpu",
        "precision": "fp32",
        "method_settings": {"passionsr": fits},
        **changes,
    }
    return CalibrationSettings.model_validate(values)


@pytest.fixture
def x(tiny_folder: Path, finished: Finished) -> Checkpoint:
    """A checkpoint of that name."""
    return finished(_settings(tiny_folder), "x")


@torch.no_grad()
def test_branches_take_sixteen_bits(least_folder: Path, finished: Finished, tmp_path: Path) -> None:
    """Older checkpoints, which hold their numbers as floats, are the same model."""
    changes = {"vae": "fp", "method": "qartsr", "method_settings": {"qartsr": QUICK_QARTSR}}
    made = finished(_settings(least_folder, **changes), "x")
    tensors = made.entry.tensors()
    branches = [key for key in tensors if key.endswith((".branch_down", ".branch_up"))]
    assert branches
    assert {tensors[key].element_size() for key in branches} == {2}
    floats = {key: tensors[key].view(torch.bfloat16).float() for key in branches}
    folder = tmp_path / "older"
    write_entry(folder, CHECKPOINT, made.entry.manifest, tensors | floats)
    upscaled = torch.rand(1, 3, 32, 32)
    older, newer = (load_checkpoint(find_checkpoint(name)) for name in (str(folder), "x"))
    assert torch.equal(older(upscaled), newer(upscaled))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unet": "w2a2", "vae": "w8a8"},
        {"unet": "w3a16", "vae": "w16a4"},
        {"unet": "w5a7", "vae": "fp"},
        {"weights": "asymmetric", "weight_grids": "tensor", "activations": "symmetric"},
        {"method": "maxmin"},
        {"method": "qartsr", "method_settings": {"qartsr": QUICK_QARTSR}},
    ],
)
@torch.no_grad()
def test_a_loaded_checkpoint_computes_what_was_calibrated(
    least_folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    made: list[OneStepModel] = []
    plain = packed.pack_model
    monkeypatch.setattr(packed, "pack_model", lambda model: (made.append(model), plain(model))[1])
    entry = api.calibrate(_settings(least_folder, **changes), "x")
    loaded = load_checkpoint(find_checkpoint("x"))
    # They choose the order of sums, which coarse grids may hide.
    strides, others = (
        {name: value.stride() for name, value in model.named_parameters()}
        | {name: value.stride() for name, value in model.named_buffers()}
        for model in (loaded, made[0])
    )
    assert strides == others
    upscaled = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(upscaled), made[0](upscaled))
    again = load_checkpoint(find_checkpoint(str(entry.folder)))
    assert torch.equal(loaded(upscaled), again(upscaled))


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of mapped files")
def test_a_loaded_checkpoint_does_not_keep_its_file_in_memory(x: Checkpoint) -> None:
    loaded = load_checkpoint(x)
    assert x.tensors_path.name not in Path("/proc/self/maps").read_text()
    assert loaded is not None


def test_integers_take_their_bits_on_disk(x: Checkpoint) -> None:
    tensors = load_file(x.tensors_path)
    weight = tensors["unet.mid_block.resnets.0.conv1.weight"]
    assert weight.dtype == torch.uint8
    assert weight.numel() == 16 * 16 * 9 * 6 // 8
    assert tensors["vae.decoder.mid_block.resnets.0.conv1.weight"].numel() == 16 * 16 * 9 * 4 // 8


def test_its_integers_can_be_read_from_the_documented_format(x: Checkpoint) -> None:
    """Bits, zero points and scales of a file, by numpy alone, against the loaded model."""
    tensors = {key: value.numpy() for key, value in load_file(x.tensors_path).items()}
    name = "unet.mid_block.resnets.0.conv1"
    bits = np.unpackbits(tensors[f"{name}.weight"], bitorder="little")[: 16 * 16 * 9 * 6]
    codes = (bits.reshape(-1, 6) * 2 ** np.arange(6)).sum(1).reshape(16, 16, 3, 3)
    zero = tensors[f"{name}.weight_zero_point"].reshape(-1, 1, 1, 1)
    weight = (codes - zero) * tensors[f"{name}.weight_scale"].reshape(-1, 1, 1, 1)
    layer = frozen_layers(load_checkpoint(x))[name]
    assert isinstance(layer, FrozenLayer)
    np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=1e-6)


def test_a_manifest_says_everything(tiny_folder: Path, x: Checkpoint) -> None:
    manifest = json.loads((x.folder / "manifest.json").read_text())
    assert manifest["model"]["sha256"] == sha256_of(next(tiny_folder.glob("*.safetensors")))
    assert manifest["bits"] == "unet-w6a6-vae-w4a8"
    assert manifest["method"]["settings"]["component"]["steps"] == 2
    assert manifest["settings"]["crops"] == manifest["images"]["count"] == 2
    assert len(manifest["images"]["sha256"]) == 64
    assert {"passionsr", "torch", "diffusers", "accelerate"} <= set(manifest["versions"])
    row = next(row for row in manifest["layers"] if row["name"] == "unet.mid_block.resnets.0.conv1")
    weight = {"num_bits": 6, "symmetric": False, "channel_axis": 0, "offset": True}
    assert row["plan"]["weight"] == weight
    lower, upper = manifest["bounds"]["unet.mid_block.resnets.0.conv1"]["input"]
    assert lower <= 0 <= upper


@pytest.mark.usefixtures("pictures")
def test_pictures_and_curves_lie_beside_it(least_folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    one = api.calibrate(_settings(least_folder), "one")
    two = api.calibrate(_settings(least_folder, method="maxmin"), "two")
    rows = read_curve(one.folder)
    assert [(row[0], row[1]) for row in rows[:3]] == [
        ("encoder", 1),
        ("encoder", 2),
        ("unet", 1),
    ]
    assert read_curve(two.folder) == []
    with Image.open(one.folder / curves.PICTURE_FILE) as picture:
        assert picture.width > 1000
    curves.compare(["one", "two"], tmp_path / "both.png")
    with Image.open(tmp_path / "both.png") as picture:
        assert picture.width > 1000
    curves.compare(["two"], tmp_path / "both.png")
    photograph = tmp_path / "photo.png"
    photograph.write_bytes(b"of others")
    with pytest.raises(OutputError, match=r"photo\.png: is there already, and passionsr did not"):
        curves.compare(["one", "two"], photograph)
    assert photograph.read_bytes() == b"of others"
    with pytest.raises(OutputError, match=r"both\.gif: pictures are"):
        curves.compare(["one", "two"], tmp_path / "both.gif")
    with pytest.raises(OutputError, match="cannot write"):
        curves.compare(["one"], least_folder / "manifest.json" / "both.png")


def test_damaged_checkpoints_are_refused_with_the_reason(x: Checkpoint) -> None:
    tensors = load_file(x.tensors_path)
    path = x.folder / "manifest.json"
    manifest = json.loads(path.read_text())

    def rewrite(changed: dict[str, torch.Tensor]) -> Checkpoint:
        save_file(changed, x.tensors_path)
        size = x.tensors_path.stat().st_size
        own = {**manifest["tensors"], "sha256": sha256_of(x.tensors_path), "bytes": size}
        stored = {**manifest, "tensors": own}
        path.write_text(json.dumps({**stored, "checksum": checksum(stored)}))
        return find_checkpoint("x")

    for key in (
        "unet.mid_block.resnets.0.conv1.weight",
        "unet.mid_block.resnets.0.conv1.input_scale",
        "unet.conv_norm_out.weight",
    ):
        with pytest.raises(ModelError, match="does not fit the manifest of 'x'"):
            load_checkpoint(
                rewrite({name: tensor for name, tensor in tensors.items() if name != key})
            )
    with pytest.raises(ModelError, match="unknown tensor"):
        load_checkpoint(rewrite({**tensors, "unet.surplus": torch.zeros(1)}))
    short = {
        **tensors,
        "unet.mid_block.resnets.0.conv1.weight": tensors["unet.mid_block.resnets.0.conv1.weight"][
            :-1
        ].clone(),
    }
    with pytest.raises(
        ModelError, match=r"unet\.mid_block\.resnets\.0\.conv1\.weight has 1727 bytes, not 1728"
    ):
        load_checkpoint(rewrite(short))
    wide = {**tensors, "unet.conv_norm_out.weight": torch.ones(9)}
    with pytest.raises(ModelError, match="conv_norm_out"):
        load_checkpoint(rewrite(wide))
    assert load_checkpoint(rewrite(tensors)) is not None
    x.tensors_path.write_bytes(x.tensors_path.read_bytes()[:-3] + b"abc")
    with pytest.raises(StoreError, match="is damaged: its SHA-256"):
        load_checkpoint(find_checkpoint("x"))


def _layer(manifest: dict[str, Any]) -> dict[str, Any]:
    name = "unet.mid_block.resnets.0.conv1"
    layer: dict[str, Any] = next(x for x in manifest["layers"] if x["name"] == name)
    return layer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["model"]["description"]["unet"].update(nonsense=1), "nonsense"),
        (
            lambda m: m["model"]["description"]["unet"].update(down_block_types=["Nobody"] * 2),
            "Nobody",
        ),
        (
            lambda m: m["model"]["description"]["vae"].pop("block_out_channels"),
            "block_out_channels is missing",
        ),
        (lambda m: _layer(m).update(name="unet.nowhere"), "nowhere"),
        (lambda m: _layer(m).update(kind="linear"), "conv1 is no linear of the model"),
        (lambda m: m["layers"].append(m["layers"][0]), "is there twice"),
        (
            lambda m: _layer(m)["plan"]["weight"].update(channel_axis=7),
            "channel_axis must be 0, 1 or none",
        ),
    ],
)
def test_manifests_of_nothing_that_can_be_built_are_refused(
    x: Checkpoint, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    """With a right checksum, as of another program's."""
    path = x.folder / "manifest.json"
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps({**stored, "checksum": checksum(stored)}))
    with pytest.raises(PassionSRError, match=re.escape(message)):
        load_checkpoint(find_checkpoint("x"))
    found, damaged, _ = catalogue.listing()
    assert {"x"} <= {item["name"] for item in found} | {*damaged}


def test_a_checkpoint_of_another_model_is_refused(
    x: Checkpoint, tiny_folder: Path, tiny_model: OneStepModel, tmp_path: Path
) -> None:
    check_origin(x.name, str(tiny_folder))
    torch.nn.init.normal_(tiny_model.context)
    save(tmp_path / "other", tiny_model, {})
    for name in (str(tmp_path / "other"), "mini"):
        with pytest.raises(ModelError, match=r"checkpoint .x. was made from .* leave out --model"):
            check_origin(x.name, name)


def test_removing(x: Checkpoint) -> None:
    assert [item["name"] for item in catalogue.listing()[0]] == ["mini-w8a8", "x"]
    with pytest.raises(StoreError, match="a folder outside the store"):
        catalogue.remove(str(x.folder))
    catalogue.remove("x")
    assert not x.folder.exists()
    with pytest.raises(StoreError, match="no checkpoint named 'x'; known are mini-w8a8"):
        catalogue.remove("x")
    with pytest.raises(StoreError, match="'mini-w8a8' is part of passionsr and stays"):
        catalogue.remove("mini-w8a8")


def test_an_unfinished_calibration_goes_with_what_it_wrote_of_its_checkpoint() -> None:
    run, place = run_folder("half"), Store(CHECKPOINT).folder("half")
    for folder, file in ((run, "settings.json"), (place, "curve.csv")):
        folder.mkdir(parents=True)
        (folder / file).write_text("{}")
    catalogue.remove("half")
    assert not run.exists()
    assert not place.exists()
