"""What is recorded and when; the recording itself needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.inference import open as opening
from passionsr_cli.inference import torch_executor
from passionsr_cli.inference.compiling import CompilingExecutor
from passionsr_cli.inference.open import open_executor
from passionsr_cli.inference.torch_executor import CompiledExecutor, TorchExecutor
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.store import MODEL
from passionsr_cli.system.devices import Device
from passionsr_cli.triton_kernels import cuda_graphs
from passionsr_cli.triton_kernels.cuda_graphs import Recordings, record


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that were recorded."""
    shapes: list[tuple[int, ...]] = []

    def fake(
        function: Callable[[Tensor], Tensor], x: Tensor, pool: object
    ) -> tuple[Callable[[Tensor], Tensor], object]:
        # All of them share the first one's.
        assert pool == ((0, 1) if shapes else None)
        shapes.append(tuple(x.shape))
        return lambda x: function(x) + 100, (0, 1)

    monkeypatch.setattr(cuda_graphs, "record", fake)
    return shapes


def _moved(x: Tensor, by: float) -> Tensor:
    return x + by


def test_what_comes_again_is_recorded(recorded: list[tuple[int, ...]]) -> None:
    recordings, x = Recordings(SILENT), torch.zeros(2)
    # Once as it is, then from a recording, which holds the constants.
    found = [float(recordings(_moved, x, by)[0]) for by in (1.0, 1.0, 2.0, 1.0, 2.0)]
    assert found == [1, 101, 2, 101, 102]
    assert recorded == [(2,), (2,)]
    recordings(_moved, torch.zeros(3), 1.0)
    assert len(recorded) == 2


def test_the_least_used_recordings_go(recorded: list[tuple[int, ...]]) -> None:
    recordings = Recordings(SILENT)
    sizes = range(1, cuda_graphs.MOST_GRAPHS + 2)
    for size in (*sizes, *sizes):
        recordings(_moved, torch.zeros(size), 0.0)
    assert len(recorded) == len(sizes)
    recordings(_moved, torch.zeros(2), 0.0)
    assert len(recorded) == len(sizes)
    recordings(_moved, torch.zeros(1), 0.0)
    assert recorded[len(sizes) :] == [(1,)]


def test_what_cannot_be_recorded_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(cuda_graphs, "record", fail)
    notes = Notes()
    recordings = Recordings(notes)
    found = [float(recordings(_moved, torch.zeros(1), 1.0)) for _ in range(3)]
    assert found == [1, 1, 1]
    assert notes.texts == ["without CUDA graphs: operation not permitted when stream is capturing"]


def test_what_a_recording_has_no_memory_for_runs_as_it_is(
    recorded: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    recordings = Recordings(SILENT)
    with monkeypatch.context() as full:
        full.setattr(cuda_graphs, "record", fail)
        found = [float(recordings(_moved, torch.zeros(1), 1.0)) for _ in range(3)]
    # Others may be smaller.
    found += [float(recordings(_moved, torch.zeros(2), 1.0)[0]) for _ in range(2)]
    found.append(float(recordings(_moved, torch.zeros(1), 1.0)))
    assert found == [1, 1, 1, 1, 101, 1]


def test_a_tile_that_does_not_fit_frees_what_was_recorded(
    recorded: list[tuple[int, ...]],
) -> None:
    def large(x: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    recordings = Recordings(SILENT)
    for _ in range(2):
        recordings(_moved, torch.zeros(1), 1.0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        recordings(large, torch.zeros(2))
    recordings(_moved, torch.zeros(1), 1.0)
    assert recorded == [(1,), (1,)]


def test_full_precision_on_a_gpu_is_recorded(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(OneStepModel, "to", lambda self, *places, **options: self)
    gpu, cpu = Device("cuda", "fp32"), Device("cpu", "fp32")
    monkeypatch.setattr(opening, "choose_device", lambda *_: "cuda")
    monkeypatch.setattr(opening, "open_device", lambda *_: gpu)
    opened: Any = open_executor(resolve(EMBEDDED_MODEL, MODEL), "torch", "auto", "auto", SILENT)
    compiled = CompiledExecutor(tiny_model, gpu)
    compiling = CompilingExecutor(tiny_model, gpu, tmp_path / "verdicts.json", SILENT)
    assert all(each._recordings is not None for each in (opened, compiled, compiling))
    # As published, and where a definition is compared with.
    assert TorchExecutor(tiny_model, gpu)._recordings is None
    assert CompiledExecutor(tiny_model, cpu)._recordings is None
    # What is simulated cannot be.
    monkeypatch.setattr(torch_executor, "quantized_layers", lambda model: {"unet.conv_in": None})
    assert TorchExecutor(tiny_model, gpu, reporter=SILENT)._recordings is None


def test_a_tile_goes_through_its_recordings(tiny_model: OneStepModel) -> None:
    executor = TorchExecutor(tiny_model, Device("cpu", "fp32"))
    tile = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    wanted = executor.decode(executor.restore_latent(tile))
    seen: list[str] = []

    def launched(function: Callable[..., Tensor], x: Tensor, *constants: Any) -> Tensor:
        seen.append(function.__name__)
        return function(x, *constants)

    executor._recordings = cast(Recordings, launched)
    np.testing.assert_array_equal(executor.decode(executor.restore_latent(tile)), wanted)
    assert seen == ["_restored", "_decoded"]


@pytest.mark.gpu
def test_a_recording_computes_what_the_function_does() -> None:
    weight = torch.randn(64, 64, device="cuda")
    replay, pool = record(lambda x: torch.relu(x @ weight), torch.zeros(8, 64, device="cuda"))
    other, _ = record(lambda x: (x @ weight).exp(), torch.ones(8, 64, device="cuda"), pool)
    for _ in range(3):
        x = torch.randn(8, 64, device="cuda")
        first = replay(x)
        torch.testing.assert_close(first, torch.relu(x @ weight))
        replay(torch.zeros_like(x))
        torch.testing.assert_close(other(x), (x @ weight).exp())
        # A result is the caller's: a later replay leaves it as it is.
        torch.testing.assert_close(first, torch.relu(x @ weight))
