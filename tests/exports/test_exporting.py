from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from integers import on_integers_as_far_as_exact

from passionsr_cli import __version__, api
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.errors import ConfigError, DeviceError, OutputError, StoreError
from passionsr_cli.exports import exporting, formats
from passionsr_cli.exports.fidelity import Definition, lr_photograph, psnr
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


@pytest.mark.usefixtures("small_photograph")
@pytest.mark.parametrize("spoiled", [0, 1, 2])
def test_of_the_settings_of_a_dial_the_worst_counts(
    dial_folder: Path, tmp_path: Path, spoiled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.define

    def define(*arguments: Any) -> Definition:
        made = real(*arguments)
        settings = list(made.settings)
        assert [setting.realism for setting in settings] == [0, 0.25, 1]
        settings[spoiled] = replace(settings[spoiled], image=1 - settings[spoiled].image)
        return replace(made, settings=tuple(settings))

    monkeypatch.setattr(exporting, "define", define)
    with pytest.raises(StoreError, match="dB of its definition"):
        api.export(str(dial_folder), "safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small_photograph")
def test_without_a_size_any_image_goes(
    calibrate: Callable[..., str], tiny_model: OneStepModel, tmp_path: Path
) -> None:
    api.export(calibrate("w8a8"), "onnx", tmp_path / "out")
    form = formats.find_format("onnx", None)
    executor = form.open(tmp_path / "out", tiny_model.description)
    definition = load_checkpoint(find_checkpoint("w8a8"))
    x = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        wanted = definition(x)
    near = psnr(executor.decode(executor.restore_latent(x.numpy())), wanted.numpy())
    # Flipped integers in so small a model are seen in the whole image.
    assert near is None or near > 30


@pytest.mark.usefixtures("small_photograph")
def test_what_is_packed_loads_as_a_checkpoint(
    calibrate: Callable[..., str], tmp_path: Path
) -> None:
    name = calibrate("w3a5")
    api.export(name, "safetensors", tmp_path / "out")
    one, other = (load_checkpoint(find_checkpoint(n)) for n in (name, str(tmp_path / "out")))
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(one(x), other(x))


def test_tensorrt_gets_zero_points_of_zero(calibrate: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config symmetric"):
        api.export(calibrate("w6a6"), "onnx", tmp_path / "out", 64, "tensorrt")
    assert not (tmp_path / "out").exists()
    name = calibrate("w8a8", activations="symmetric", weights="symmetric")
    assert api.export(name, "onnx", tmp_path / "out", 64, "tensorrt").precision == "fp16"
    for component in ("encoder", "unet", "decoder"):
        graph = onnx.load(tmp_path / "out" / f"{component}.onnx").graph
        values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        nodes = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
        # Where none is given it is zero, of the integers' type.
        points = [values[node.input[2]] for node in nodes if len(node.input) == 3]
        assert points
        assert all(point.dtype == np.int8 and not point.any() for point in points)
        weights = [values[n.input[0]] for n in nodes if n.input[0] in values]
        assert weights
        assert all(weight.dtype == np.int8 for weight in weights)


def test_mini_in_half_precision_is_typed_so_around_its_integers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = api.export("mini-w8a8", "onnx", out, 128, precision="fp16")
    assert report.fidelity.sufficient
    assert report.fidelity.psnr is not None
    assert report.fidelity.psnr > 50
    assert json.loads((out / "model.json").read_text())["precision"] == "fp16"
    for component, pairs in (("encoder", 0), ("unet", 100), ("decoder", 6)):
        path = out / f"{component}.onnx"
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 21)]
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        types = {each.name: each.data_type for each in graph.initializer}
        types |= {each.name: each.type.tensor_type.elem_type for each in graph.value_info}
        made_of = {name: node for node in graph.node for name in node.output}
        quantizing = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        assert len(quantizing) == pairs
        for node in graph.node:
            named = [types.get(name) for name in (*node.input, *node.output)]
            if node.op_type == "QuantizeLinear":
                x, scale, integers = named[0], named[1], named[-1]
                assert x == scale == onnx.TensorProto.FLOAT16
                assert integers in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
            elif node.op_type == "DequantizeLinear":
                assert named[1] == named[-1] == onnx.TensorProto.FLOAT16
            elif node.op_type not in ("Cast", "Resize"):
                assert onnx.TensorProto.FLOAT not in named
            if node.op_type in ("Conv", "MatMul"):
                # Nothing is between a pair and its product, of which runtimes make one kernel.
                readers = [made_of[name].op_type for name in node.input[:2] if name in made_of]
                assert set(readers) <= {"DequantizeLinear"} or not types_of_integers(node, made_of)


def types_of_integers(node: Any, made_of: dict[str, Any]) -> bool:
    """True if a product's weight is dequantized."""
    weight = made_of.get(node.input[1])
    return weight is not None and weight.op_type == "DequantizeLinear"


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


def test_what_computes_something_else_is_not_handed_over(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting.define

    def spoiled(*arguments: Any) -> Definition:
        made = real(*arguments)
        (setting,) = made.settings
        return Definition(made.photograph, (replace(setting, image=1 - setting.image),))

    monkeypatch.setattr(exporting, "define", spoiled)
    with pytest.raises(StoreError, match="dB of its definition"):
        api.export(str(least_folder), "openvino", tmp_path / "out", size=64)
    assert not (tmp_path / "out").exists()


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


def test_onnx_is_asked_for_by_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passionsr_cli.inference.open.ONNX_PACKAGES", ("no_such_package",))
    with pytest.raises(DeviceError, match="pip install no_such_package"):
        formats.find_format("onnx", None)


def test_psnr_and_the_photograph() -> None:
    a = np.zeros((3, 4, 4), np.float32)
    assert psnr(a, a) is None
    assert psnr(a, a + 0.1) == pytest.approx(-20 * math.log10(0.1))
    assert lr_photograph(16).shape == (3, 16, 16)
    assert lr_photograph(200).shape == (3, 200, 200)
