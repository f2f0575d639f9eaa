from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from integers import on_integers_as_far_as_exact

from passionsr_cli import __version__, api
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.errors import ConfigError, OutputError, StoreError
from passionsr_cli.exports import exporting, formats
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Notes
from passionsr_cli.quantization.schemes import LayerPlan
from passionsr_cli.system.claims import claim
from passionsr_cli.system.files import sha256_of

FORMATS = ("openvino", "onnx", "safetensors")


def _size(form: str) -> int | None:
    """A size for the formats that have one."""
    return None if form == "safetensors" else 64


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize("form", FORMATS)
def test_a_checkpoint_is_exported_and_proven(
    calibrate: Callable[..., str], form: str, tmp_path: Path
) -> None:
    report = api.export(calibrate("w4a6"), form, tmp_path / "out", size=_size(form))
    folder = tmp_path / "out"
    assert report.fidelity.sufficient
    assert report.bytes <= sum(path.stat().st_size for path in folder.iterdir())
    written = json.loads((folder / "report.json").read_text())
    named = written.pop("kernels")
    assert written == json.loads(json.dumps(report.as_dict()))
    assert len(named["integer"]) == written["layers"]["integer"]
    about = json.loads((folder / "model.json").read_text())
    assert about["signal_rate"] ** 2 + about["noise_rate"] ** 2 == pytest.approx(1)
    for name, digest in about["files"].items():
        assert sha256_of(folder / name) == digest
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()
    layers = written["layers"]
    if form == "openvino":
        assert layers["integer"] > 0
        assert on_integers_as_far_as_exact(report.kernels)
    if form == "onnx":
        # onnxruntime's CPU kernels take some products to integers, convolutions not.
        assert layers["integer"] > 0
        kernels = {reason.rpartition(" ")[2] for reason in layers["floating"].values()}
        assert kernels <= {"Conv", "FusedConv", "Gemm"}
        for path in folder.glob("*.onnx"):
            _assert_signed_by_us(path)


def _assert_signed_by_us(path: Path) -> None:
    """Nothing in a file says where and of what sources it was made."""
    stored, model = path.read_bytes(), onnx.load(path)
    for place in (str(Path(torch.__file__).parent), "site-packages", "passionsr_cli", ".py"):
        assert place.encode() not in stored
    assert (model.producer_name, model.producer_version) == ("passionsr", __version__)
    noted = {each.key: each.value for each in model.metadata_props}
    assert noted == {"model": "least", "licence": "MIT"}


@pytest.mark.usefixtures("small_photograph")
def test_of_several_at_once_one_exports(least_folder: Path, tmp_path: Path) -> None:
    with (
        claim(tmp_path / ".out.exporting", "exporting"),
        pytest.raises(OutputError, match=r"process \d+ on .*, exporting since \d\d:\d\d, holds it"),
    ):
        api.export(str(least_folder), "safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    api.export(str(least_folder), "safetensors", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize("form", FORMATS)
def test_branches_are_exported(
    calibrate: Callable[..., str], tiny_folder: Path, form: str, tmp_path: Path
) -> None:
    own = {
        "module": None,
        "end_to_end": None,
        "ranks": {"linear": 4, "convolution": 4},
    }
    settings = {"model": str(tiny_folder), "method_settings": {"qartsr": own}}
    name = calibrate("w4a4", method="qartsr", **settings)
    plans = [record.plan for record in find_checkpoint(name).manifest.layers]
    assert any(isinstance(plan, LayerPlan) and plan.rank == 4 for plan in plans)
    report = api.export(name, form, tmp_path / "out", size=_size(form))
    assert report.fidelity.sufficient
    if form == "openvino":
        layers = json.loads((tmp_path / "out" / "report.json").read_text())["layers"]
        assert layers["integer"] > 0
        assert on_integers_as_far_as_exact(report.kernels)


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize("form", FORMATS)
def test_a_full_precision_model_is_exported(least_folder: Path, form: str, tmp_path: Path) -> None:
    report = api.export(str(least_folder), form, tmp_path / "out", size=_size(form))
    assert report.fidelity.psnr is None or report.fidelity.psnr > 80
    assert report.kernels.integer == report.kernels.floating == ()


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize("form", FORMATS)
def test_a_dial_is_exported_with_both_heads(
    dial_model: OneStepModel, dial_folder: Path, form: str, tmp_path: Path
) -> None:
    report = api.export(str(dial_folder), form, tmp_path / "out", size=_size(form))
    assert report.fidelity.psnr is None or report.fidelity.psnr > 80
    assert report.fidelity.realism in (0, 0.25, 1)
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["dial"] == {
        "heads": ["faithful", "natural"],
        "noise": "(1 - realism) * faithful + realism * natural",
        "default": 0.25,
        "pixel_strength": 1,
    }
    executor = formats.find_format(form, None).open(tmp_path / "out", dial_model.description)
    definition = loading.load(str(dial_folder))
    x = torch.rand(1, 3, 64, 64, generator=torch.manual_seed(0))
    with torch.no_grad():
        latent = definition.encode(x)
        heads = definition.unet(latent, 199, definition.context).sample
    for realism in (0.0, 0.6, 1.0):
        noise = (1 - realism) * heads[:, :4] + realism * heads[:, 4:]
        expected = (latent - about["noise_rate"] * noise) / about["signal_rate"]
        found = executor.restore_latent(x.numpy(), realism)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("form", "precision", "message"),
    [("openvino", "fp16", "for onnx"), ("onnx", "bf16", "unknown precision 'bf16'")],
)
def test_precisions_that_cannot_be(form: str, precision: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        api.export("mini", form, precision=precision)


def test_a_folder_that_exists_is_left_alone(least_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        api.export(str(least_folder), "openvino", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("output", [".", "", ".."])
def test_folders_without_a_name_exist_already(
    least_folder: Path, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    with pytest.raises(OutputError, match="exists already"):
        api.export(str(least_folder), "safetensors", Path(output))
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("small_photograph")
def test_where_it_is_started_has_a_name(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(least_folder, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    assert api.export(".", "safetensors").folder == "mine-safetensors"
    assert Path("mine-safetensors").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on files is a Unix matter")
def test_a_full_disk_is_said_in_one_line(least_folder: Path, tmp_path: Path) -> None:
    import resource

    class FullDisk(Notes):
        def started(self, task: str, total: float | None = None) -> None:
            if task.startswith("writing"):
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OutputError, match=r"^cannot write .*; is there room on the disk"):
            api.export(
                str(least_folder), "openvino", tmp_path / "out", size=64, reporter=FullDisk()
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_photograph")
def test_who_may_read_it_is_what_the_umask_says(least_folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    before = os.umask(0o027)
    try:
        api.export(str(least_folder), "safetensors", tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}


@pytest.mark.usefixtures("small_photograph")
def test_the_same_export_is_done_once(least_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = api.export(str(least_folder), "safetensors", out)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = api.export(str(least_folder), "safetensors", out)
    assert again.as_dict() == json.loads(json.dumps(first.as_dict()))
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    moved = out.rename(tmp_path / "moved")
    assert api.export(str(least_folder), "safetensors", moved).folder == str(moved)
    out = moved.rename(out)
    with pytest.raises(OutputError, match="exists already"):
        api.export(str(least_folder), "openvino", out, size=64)
    damaged = next(path for path in out.iterdir() if path.suffix == ".safetensors")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(OutputError, match="exists already"):
        api.export(str(least_folder), "safetensors", out)


def test_an_export_that_fails_leaves_nothing(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*arguments: Any) -> None:
        (arguments[2] / "encoder.xml").write_text("half")
        raise OSError(28, "No space left on device")

    form = formats.Format("openvino", None, "fp32", lambda model: None, write, lambda *_: None)  # type: ignore[arg-type,return-value]
    monkeypatch.setattr(exporting, "find_format", lambda *_: form)
    with pytest.raises(OutputError, match="No space left"):
        api.export(str(least_folder), "openvino", tmp_path / "new" / "out", size=64)
    assert list((tmp_path / "new").iterdir()) == []


def test_sizes_are_rounded_up(tiny_model: OneStepModel) -> None:
    notes = Notes()
    assert exporting.fitting_size(tiny_model.description, 64, notes) == 64
    assert notes.texts == []
    assert exporting.fitting_size(tiny_model.description, 65, notes) == 72
    assert "multiples of 8" in notes.texts[0]
    with pytest.raises(ConfigError, match="0 px"):
        exporting.fitting_size(tiny_model.description, 0, notes)


def test_unknown_names_and_formats() -> None:
    with pytest.raises(StoreError, match=r"no checkpoint or model 'nothing'.*mini"):
        api.export("nothing", "openvino")
    with pytest.raises(ConfigError, match="openvino, onnx, safetensors"):
        api.export("mini", "tflite")
    with pytest.raises(ConfigError, match="tensorrt does not go with openvino"):
        api.export("mini", "openvino", target="tensorrt")


def test_tensors_have_no_size() -> None:
    wanted = "--size 64 is for openvino and onnx; .* any size: leave --size out"
    with pytest.raises(ConfigError, match=wanted):
        api.export("mini", "safetensors", size=64)
