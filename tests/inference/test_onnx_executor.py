from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.cli.app import app
from passionsr_cli.conversion.stored_graphs import StoredGraph
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, DeviceError, TileMemoryError
from passionsr_cli.inference import onnx_executor
from passionsr_cli.inference.onnx_executor import (
    CPU,
    CUDA,
    TENSORRT,
    OnnxExecutor,
    choose_providers,
)
from passionsr_cli.inference.open import open_executor
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.store import CHECKPOINT, MODEL


def _image() -> Any:
    return torch.rand(1, 3, 32, 32, generator=torch.manual_seed(0)).numpy()


def _open(artifact: Artifact, notes: Any = SILENT, device: str = "cpu") -> Any:
    return open_executor(artifact, "onnxruntime", device, "auto", notes)


def test_a_checkpoint_computes_what_torch_defines(calibrate: Callable[..., str]) -> None:
    source, notes = resolve(calibrate("w8a8"), CHECKPOINT), Notes()
    executor = _open(source, notes)
    assert (executor.backend, executor.device, executor.precision) == ("onnxruntime", "cpu", "fp32")
    assert executor.kernels().floating == ()
    found = executor.decode(executor.restore_latent(_image()))
    definition = open_executor(source, "torch", "cpu", "fp32", SILENT)
    wanted = definition.decode(definition.restore_latent(_image()))
    # A value midway between two integers may go either way, which so small a model shows.
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.03
    assert [text.partition(",")[0] for text in notes.texts] == [
        "converting the model",
        "onnxruntime runs on the CPU",
    ]
    report = executor.kernels()
    assert report.integer
    assert report.folded
    # Its kernels for the CPU take convolutions back to floating point.
    kernels = {reason.removeprefix("the CPU of onnxruntime runs ") for _, reason in report.floating}
    assert kernels <= {"Conv", "FusedConv", "Gemm"}
    assert not {*report.integer} & {name for name, _ in report.floating}
    # Later runs start from the cache.
    again = Notes()
    repeated = _open(source, again)
    np.testing.assert_array_equal(repeated.decode(repeated.restore_latent(_image())), found)
    assert again.texts == ["onnxruntime runs on the CPU"]


@pytest.mark.parametrize(
    ("device", "driver", "there", "chosen"),
    [
        ("auto", True, [TENSORRT, CUDA, CPU], (TENSORRT, CUDA, CPU)),
        ("auto", True, [CPU], (CPU,)),
        ("auto", False, [TENSORRT, CUDA, CPU], (CPU,)),
        ("cuda:1", True, ["AzureExecutionProvider", CPU, CUDA], (CUDA, CPU)),
        ("cpu", True, [TENSORRT, CUDA, CPU], (CPU,)),
    ],
)
def test_providers(
    device: str,
    driver: bool,
    there: list[str],
    chosen: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnx_executor, "has_gpu_driver", lambda: driver)
    assert choose_providers(device) == chosen


class _Session:
    """A session as on another machine: which providers start is set, results are zeros."""

    starting = (TENSORRT, CUDA, CPU)

    def __init__(self, path: Path, options: Any, providers: list[tuple[str, Any]]) -> None:
        self.path, self.options, self.providers = path, options, providers
        opened.append(self)

    def get_providers(self) -> list[str]:
        return [name for name, _ in self.providers if name in self.starting]

    def get_inputs(self) -> list[Any]:
        return [self]

    name = "input"

    def run(self, outputs: None, inputs: dict[str, Any]) -> list[Any]:
        return [np.zeros((1, 4, 4, 4), np.float32)]

    def end_profiling(self) -> str:
        event = {"cat": "Node", "name": "TRTKernel_graph_0_kernel_time"}
        event |= {"args": {"op_name": "TRTKernel", "provider": TENSORRT}}
        path = f"{self.options.profile_file_prefix}.json"
        Path(path).write_text(json.dumps([event, {"cat": "Session", "name": "run", "args": {}}]))
        return path


opened: list[_Session] = []


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    opened.clear()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnx_executor, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(onnxruntime, "InferenceSession", _Session)


class _Graphs:
    """Graphs of which there is one layer in each component."""

    def graph(self, component: str) -> StoredGraph:
        return StoredGraph(Path("folder", f"{component}.onnx"), (f"{component}.layer",), (), ())

    def compiled(self, name: str) -> None:
        return None

    def keep(self, name: str, compiled: Any, ran: Any) -> None:
        pass


def _on_gpu(description: ModelDescription, notes: Any = SILENT) -> OnnxExecutor:
    providers = choose_providers("cuda:1")
    return OnnxExecutor(description, _Graphs(), "fp16", "cuda:1", providers, notes)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_keeps_its_engines(tiny_model: OneStepModel) -> None:
    notes = Notes()
    executor = _on_gpu(tiny_model.description, notes)
    executor.restore_latent(_image())
    (tensorrt, own), (cuda, others), (cpu, none) = opened[0].providers
    assert (tensorrt, cuda, cpu, none) == (TENSORRT, CUDA, CPU, {})
    assert own["device_id"] == others["device_id"] == 1
    assert own["trt_int8_enable"]
    assert own["trt_fp16_enable"]
    assert own["trt_engine_cache_path"] == str(Path("folder", "engines"))
    assert notes.texts == ["onnxruntime runs on TensorRT"]
    reason = "TensorRT does not say how it runs it"
    assert executor.kernels().floating == (("encoder.layer", reason), ("unet.layer", reason))


@pytest.mark.usefixtures("gpu")
def test_a_gpu_gets_16_bits(least_folder: Path) -> None:
    executor = _open(resolve(str(least_folder), MODEL), SILENT, "auto")
    assert (executor.device, executor.precision) == ("cuda", "fp16")


@pytest.mark.usefixtures("gpu")
def test_providers_that_do_not_start_are_told(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Session, "starting", (CPU,))
    notes = Notes()
    executor = _on_gpu(tiny_model.description, notes)
    executor.restore_latent(_image())
    assert executor.device == "cpu"
    assert notes.texts[0] == "onnxruntime runs on the CPU"
    assert notes.texts[1].startswith("TensorRT and CUDA of onnxruntime did not start")


@pytest.mark.usefixtures("gpu")
def test_no_memory_is_advice(tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> None:
        raise Exception("BFCArena::AllocateRawInternal Failed to allocate memory")

    monkeypatch.setattr(_Session, "run", run)
    with pytest.raises(TileMemoryError, match="smaller --tile"):
        _on_gpu(tiny_model.description).restore_latent(_image())


def test_what_cannot_be_is_refused(least_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve(str(least_folder), MODEL)
    with pytest.raises(ConfigError, match="fp32 or fp16 here, not in bf16"):
        open_executor(source, "onnxruntime", "cpu", "bf16", SILENT)
    with pytest.raises(DeviceError, match="pip install onnxruntime-gpu"):
        _open(source, SILENT, "cuda")
    with pytest.raises(ConfigError, match="unknown device 'toaster'"):
        _open(source, SILENT, "toaster")
    monkeypatch.setattr("passionsr_cli.inference.open.ONNX_PACKAGES", ("no_such_package",))
    with pytest.raises(DeviceError, match="pip install no_such_package"):
        _open(source)


def test_the_command_says_what_ran(least_folder: Path, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((16, 12)).save(tmp_path / "photo.png")
    given = ["upscale", str(tmp_path / "photo.png"), "--model", str(least_folder), "--json"]
    done = CliRunner().invoke(app, [*given, "--backend", "onnxruntime"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["backend"], told["device"]) == ("onnxruntime", "cpu")
    assert "onnxruntime runs on the CPU" in done.stderr
    assert Image.open(tmp_path / "photo_x4.png").size == (64, 48)
