"""When full precision is compiled: on a CPU, with torch's compiler and the clock feigned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.inference import compiling
from passionsr_cli.inference.compiling import PATIENCE, CompilingExecutor, judge
from passionsr_cli.inference.open import open_executor
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.store import MODEL
from passionsr_cli.system.devices import Device

EAGER, COMPILING = 2.0, 30.0
LATENT = np.random.default_rng(0).random((1, 4, 4, 4), np.float32)


class _Machine:
    """A clock that the model and what it is compiled to move on."""

    def __init__(self, model: OneStepModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.seconds, self.runs = 0.0, 1.0, [0, 0]
        self.away, self.failure = 0.0, ""
        self.decode = model.decode
        monkeypatch.setattr(model, "decode", self._eager)
        monkeypatch.setattr(torch, "compile", self._compile)

    def clock(self) -> float:
        return self.now

    def _eager(self, latent: Tensor) -> Tensor:
        self.now += EAGER
        self.runs[0] += 1
        return self.decode(latent)

    def _compile(self, function: object, dynamic: bool) -> Callable[[Tensor], Tensor]:
        assert not dynamic
        first = True

        def compiled(latent: Tensor) -> Tensor:
            nonlocal first
            if self.failure:
                raise RuntimeError(self.failure)
            self.now += COMPILING if first else self.seconds
            first = False
            self.runs[1] += 1
            return self.decode(latent) + self.away

        return compiled


@pytest.fixture
def machine(tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch) -> _Machine:
    return _Machine(tiny_model, monkeypatch)


@pytest.fixture
def start(
    machine: _Machine, tiny_model: OneStepModel, tmp_path: Path
) -> Callable[[Notes], CompilingExecutor]:
    used, file = Device("cpu", "fp32"), tmp_path / "new" / "compiling.json"
    return lambda notes: CompilingExecutor(tiny_model, used, file, notes, machine.clock)


def test_it_is_compiled_once_that_pays(machine: _Machine, start: Callable[..., Any]) -> None:
    executor, notes = start(heard := Notes()), heard
    calls = int(PATIENCE / EAGER)
    wanted = executor.decode(LATENT)
    for _ in range(calls - 2):
        executor.decode(LATENT)
    assert (machine.runs, notes.texts) == ([calls - 1, 0], [])
    executor.decode(LATENT)
    assert notes.texts == ["compiled by torch in 30 s: 1.0000 s a tile, 2.0000 s as it is"]
    before = list(machine.runs)
    np.testing.assert_array_equal(executor.decode(LATENT), wanted)
    assert machine.runs == [before[0], before[1] + 1]
    # Another shape has a time of its own.
    executor.decode(LATENT[..., :2])
    assert machine.runs == [before[0] + 1, before[1] + 1]


def test_the_next_run_knows_when_it_pays(machine: _Machine, start: Callable[..., Any]) -> None:
    executor = start(Notes())
    for _ in range(int(PATIENCE / EAGER)):
        executor.decode(LATENT)
    machine.runs, again = [0, 0], start(Notes())
    # 30 s of compiling, of which each tile that is not compiled misses one.
    for _ in range(29):
        again.decode(LATENT)
    assert machine.runs == [29, 0]
    again.decode(LATENT)
    assert machine.runs[1] > 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"seconds": 2.5}, "not compiled: 2.5000 s a tile, 2.0000 s as it is"),
        ({"failure": "no kernel\nat all"}, "not compiled: it failed (no kernel)"),
        ({"away": 1.0}, "dB away, which is a fault"),
        ({"away": float("nan")}, "not compiled: its result is nan dB away"),
    ],
)
def test_it_stays_as_it_is_for_good(
    values: dict[str, Any], reason: str, machine: _Machine, start: Callable[..., Any]
) -> None:
    vars(machine).update(values)
    for notes in (Notes(), Notes()):
        executor = start(notes)
        for _ in range(int(PATIENCE / EAGER) + 1):
            assert np.isfinite(executor.decode(LATENT)).all()
        (text,) = notes.texts
        assert reason in text
        tried, machine.runs = machine.runs, [0, 0]
    # The second run had nothing to find out.
    assert tried[1] == 0


def test_what_failed_for_lack_of_memory_is_not_kept(
    machine: _Machine, start: Callable[..., Any], tmp_path: Path
) -> None:
    machine.failure = "CUDA out of memory"
    executor = start(notes := Notes())
    for _ in range(int(PATIENCE / EAGER) + 1):
        executor.decode(LATENT)
    assert notes.texts == ["not compiled: it failed (CUDA out of memory)"]
    assert not (tmp_path / "new" / "compiling.json").exists()


@pytest.mark.parametrize("text", ["", "[1]", '{"shapes": {"decoded": 3}}'])
def test_a_file_that_says_nothing_is_made_anew(
    text: str, machine: _Machine, start: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "new" / "compiling.json"
    file.parent.mkdir()
    file.write_text(text)
    executor = start(Notes())
    for _ in range(int(PATIENCE / EAGER)):
        executor.decode(LATENT)
    assert list(json.loads(file.read_text())["shapes"]) == ["decoded 1 4 4 4"]


def test_it_pays_after_what_compiling_costs() -> None:
    assert judge(2.0, 1.0, 30.0, 50.0).pays_after == 60
    assert judge(2.0, 1.5, 30.0, 50.0).pays_after == 120
    assert judge(2.0, 2.0, 30.0, 50.0).pays_after is None
    assert judge(2.0, 1.0, 30.0, 19.0).pays_after is None


def test_full_precision_on_a_gpu_is_compiled_where_triton_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path))
    triton = pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")
    monkeypatch.setattr(triton.runtime.driver, "_active", SimpleNamespace(utils=None))
    monkeypatch.setattr("passionsr_cli.inference.open.choose_device", lambda *_: "cuda")
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "card")
    monkeypatch.setattr(
        "passionsr_cli.inference.open.open_device", lambda *_: Device("cpu", "fp32")
    )
    source = resolve(EMBEDDED_MODEL, MODEL)
    executor = open_executor(source, "auto", "auto", "auto", SILENT)
    assert isinstance(executor, compiling.CompilingExecutor)
    assert executor.backend == "torch"
    plain = open_executor(source, "torch", "auto", "auto", SILENT)
    assert not isinstance(plain, compiling.CompilingExecutor)
    monkeypatch.setattr(triton.runtime.driver, "_active", None)
    notes = Notes()
    stopped = open_executor(source, "auto", "auto", "auto", notes)
    assert not isinstance(stopped, compiling.CompilingExecutor)
    assert notes.texts[-1].startswith("not compiled: Triton does not start (0 active drivers")
    monkeypatch.setattr("passionsr_cli.inference.open.find_spec", lambda name: None)
    without = open_executor(source, "auto", "auto", "auto", SILENT)
    assert not isinstance(without, compiling.CompilingExecutor)
