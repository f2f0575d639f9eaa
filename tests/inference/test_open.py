from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.inference.open import open_executor
from passionsr_cli.models.loading import save
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.store import CHECKPOINT, MODEL


def test_a_cpu_runs_openvino_unless_told_otherwise(least_folder: Path) -> None:
    source = resolve(str(least_folder), MODEL)
    assert open_executor(source, "auto", "cpu", "fp32", SILENT).backend == "openvino"
    assert open_executor(source, "openvino", "auto", "fp32", SILENT).device == "cpu"
    assert open_executor(source, "torch", "cpu", "fp32", SILENT).backend == "torch"


@pytest.mark.parametrize(("is_fast", "around"), [(True, "bf16"), (False, "fp32")])
def test_integers_are_in_sixteen_bits_where_these_are_fast(
    calibrate: Callable[..., str], monkeypatch: pytest.MonkeyPatch, is_fast: bool, around: str
) -> None:
    monkeypatch.setattr("passionsr_cli.system.cpu.has_bf16", lambda: is_fast)
    source = resolve(calibrate("w8a8"), CHECKPOINT)
    assert open_executor(source, "auto", "cpu", "auto", SILENT).precision == around
    assert open_executor(source, "openvino", "cpu", "fp32", SILENT).precision == "fp32"
    # What simulates them rounds as the definition does.
    assert open_executor(source, "torch", "cpu", "auto", SILENT).precision == "fp32"


def test_the_same_weights_at_another_timestep_are_another_model(
    tiny_model: OneStepModel, least_folder: Path, tmp_path: Path
) -> None:
    """Converted graphs, which are kept by fingerprint, hold the timestep as a constant."""
    tiny_model.description = tiny_model.description.model_copy(update={"timestep": 7})
    save(tmp_path / "other", tiny_model, {})
    sources = [resolve(str(folder), MODEL) for folder in (least_folder, tmp_path / "other")]
    assert sources[0].fingerprint != sources[1].fingerprint


def test_what_cannot_be_is_refused(least_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve(str(least_folder), MODEL)
    with pytest.raises(ConfigError, match="unknown backend 'tflite'; known are auto, torch, open"):
        open_executor(source, "tflite", "cpu", "fp32", SILENT)
    monkeypatch.setattr("passionsr_cli.inference.open.choose_device", lambda *_: "cuda")
    with pytest.raises(ConfigError, match="OpenVINO runs on the CPU, not on 'cuda'"):
        open_executor(source, "openvino", "cuda", "fp32", SILENT)


def test_without_openvino_torch_does_the_work(
    least_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    source, notes = resolve(str(least_folder), MODEL), Notes()
    assert open_executor(source, "auto", "cpu", "fp32", notes).backend == "torch"
    assert "torch does the work" in notes.texts[0]
    with pytest.raises(DeviceError, match="pip install --upgrade openvino"):
        open_executor(source, "openvino", "cpu", "fp32", SILENT)
    with pytest.raises(DeviceError, match="pip install --upgrade openvino"):
        open_executor(source, "auto", "npu", "fp32", SILENT)


def test_without_triton_a_line_says_where_it_comes_from(
    least_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("passionsr_cli.triton_kernels", "passionsr_cli.inference.triton_executor")
    for name in [name for name in sys.modules if name.startswith(ours)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    source = resolve(str(least_folder), MODEL)
    with pytest.raises(DeviceError, match="it comes with torch for CUDA, on Linux; use --backend"):
        open_executor(source, "triton", "cpu", "fp32", SILENT)
    assert open_executor(source, "auto", "cpu", "fp32", SILENT).backend == "openvino"


def test_graphs_for_cpus_that_saturate_are_others(
    calibrate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, image = resolve(calibrate("w8a8"), CHECKPOINT), torch.rand(1, 3, 32, 32).numpy()
    ran = []
    for saturating in (True, False):
        monkeypatch.setattr(
            "passionsr_cli.graphs.arithmetic.products_saturate", lambda answer=saturating: answer
        )
        executor = open_executor(source, "openvino", "cpu", "fp32", SILENT)
        executor.restore_latent(image)
        ran.append(executor.kernels())
    assert ran[0].integer == ()
    assert ran[1].on_integers
