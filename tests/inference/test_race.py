from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.errors import DeviceError
from passionsr_cli.inference import race as races
from passionsr_cli.inference.open import open_executor
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.progress import SILENT, Notes
from passionsr_cli.store import CHECKPOINT
from passionsr_cli.system.devices import Device

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")


@pytest.fixture
def checkpoint(
    calibrate: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Artifact:
    """A checkpoint, on what looks like a machine with a GPU."""
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"card of {device}")
    return resolve(calibrate("w8a8"), CHECKPOINT)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of races, which all come out as the last of these says."""
    asked: list[dict[str, Any]] = []

    def hold(function: str, arguments: dict[str, Any]) -> dict[str, float]:
        assert function == "passionsr_cli.inference.race:race"
        asked.append(arguments)
        return {"integers": 0.02, "floating": 0.03, "psnr_db": 58.0}

    monkeypatch.setattr(races, "run_child", hold)
    return asked


def test_a_race_is_held_once_for_a_gpu_a_checkpoint_and_a_precision(
    checkpoint: Artifact, held: list[dict[str, Any]]
) -> None:
    notes = Notes()
    for _ in range(2):
        assert races.choose_arithmetic(checkpoint, "cuda", "fp32", notes).on_integers
    assert held == [{"folder": str(checkpoint.entry.folder), "device": "cuda", "precision": "fp32"}]
    came = "on integers: 0.0200 s a tile, compiled bf16 0.0300 s"
    assert [text for text in notes.texts if "race" not in text] == [came, came]
    assert "first use of w8a8 on this GPU" in notes.texts[0]
    # Another card, another precision.
    races.choose_arithmetic(checkpoint, "cuda:1", "fp32", SILENT)
    races.choose_arithmetic(checkpoint, "cuda", "bf16", SILENT)
    assert len(held) == 3


def test_of_two_processes_one_races_and_the_other_waits_for_its_verdict(
    checkpoint: Artifact, held: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Two races at once would time each other."""
    folder = tmp_path / "cache" / "triton"
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(2) as processes, FileLock(folder / "lock"):
        asked = [
            processes.submit(races.choose_arithmetic, checkpoint, "cuda", "fp32", SILENT)
            for _ in range(2)
        ]
        assert not wait(asked, timeout=0.3).done
        assert held == []
    assert all(verdict.result().on_integers for verdict in asked)
    assert len(held) == 1


def test_where_nothing_can_be_written_a_race_is_held_without_a_lock(
    checkpoint: Artifact, held: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "triton").write_text("no folder")
    for _ in range(2):
        assert races.choose_arithmetic(checkpoint, "cuda", "fp32", SILENT).on_integers
    assert len(held) == 2


@pytest.mark.parametrize(
    ("measured", "wins", "reason"),
    [
        ((0.02, 0.03, 58.0), True, "0.0200 s a tile, compiled bf16 0.0300 s"),
        ((0.03, 0.02, 58.0), False, "integers take 0.0300 s a tile, compiled bf16 0.0200 s; --ba"),
        ((0.02, 0.02, 58.0), False, "integers take 0.0200 s"),
        ((0.02, 0.03, 39.9), False, "39.9 dB from the definition on this GPU, which is a fault"),
        ((0.02, 0.03, float("nan")), False, "nan dB from the definition"),
    ],
)
def test_faster_and_right_integers_win(
    measured: tuple[float, float, float], wins: bool, reason: str
) -> None:
    verdict = races.judge(*measured)
    assert verdict.on_integers is wins
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("error", "races_held"), [("its process was killed", 1), ("CUDA out of memory", 2)]
)
def test_a_race_that_fails_decides_for_simulation(
    error: str, races_held: int, checkpoint: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For good, unless others may have had the memory."""
    failed = []

    def fail(function: str, arguments: dict[str, Any]) -> None:
        failed.append(function)
        raise DeviceError(error)

    notes = Notes()
    monkeypatch.setattr(races, "run_child", fail)
    races.choose_arithmetic(checkpoint, "cuda", "fp32", notes)
    assert not races.choose_arithmetic(checkpoint, "cuda", "fp32", notes).on_integers
    assert notes.texts[-1] == f"simulated in floating point: the race failed ({error})"
    assert len(failed) == races_held


def test_what_is_no_verdict_is_held_anew(
    checkpoint: Artifact, held: list[dict[str, Any]], tmp_path: Path
) -> None:
    races.choose_arithmetic(checkpoint, "cuda", "fp32", SILENT)
    (file,) = (tmp_path / "cache" / "triton").glob("race-*.json")
    file.write_text('{"on_integers": "perhaps"}')
    races.choose_arithmetic(checkpoint, "cuda", "fp32", SILENT)
    assert len(held) == 2


def test_without_a_race_the_reason_is_said(
    checkpoint: Artifact, held: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton

    notes = Notes()
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))
    assert not races.choose_arithmetic(checkpoint, "cuda", "fp32", notes).on_integers
    assert notes.texts == [
        "simulated in floating point: Triton's kernels need a GPU of compute capability 8.0, "
        "'cuda' has 7.5"
    ]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not races.choose_arithmetic(checkpoint, "cuda", "fp32", notes).on_integers
    assert "Triton is not installed" in notes.texts[-1]
    assert held == []


def test_a_race_times_both_and_compares_with_the_definition(
    checkpoint: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, whose interpreter loses any race."""
    monkeypatch.setattr(races, "WARM_UPS", 0)
    monkeypatch.setattr(races, "RUNS", 1)
    monkeypatch.setattr("passionsr_cli.inference.torch_executor.CompiledExecutor", TorchExecutor)
    measured = races.race(str(checkpoint.entry.folder), "cpu", "fp32", tile_px=16)
    assert 0 < measured["floating"] < measured["integers"]
    assert measured["psnr_db"] > 40


@pytest.mark.parametrize(("wins", "backend"), [(True, "triton"), (False, "torch")])
def test_auto_takes_what_a_race_says(
    wins: bool, backend: str, checkpoint: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passionsr_cli.inference.open.choose_device", lambda *_: "cuda")
    monkeypatch.setattr(
        "passionsr_cli.inference.open.open_device", lambda *_: Device("cpu", "fp32")
    )
    asked = []

    def choose(artifact: Artifact, device: str, precision: str, reporter: object) -> races.Verdict:
        asked.append((device, precision))
        return races.Verdict(on_integers=wins, reason="as the race says")

    monkeypatch.setattr(races, "choose_arithmetic", choose)
    executor = open_executor(checkpoint, "auto", "auto", "auto", SILENT)
    assert executor.backend == backend
    reasons = {reason for _, reason in executor.kernels().floating}
    assert reasons == (set() if wins else {"simulated in fp32: as the race says"})
    assert asked == [("cuda", "fp32")]
    assert open_executor(checkpoint, "torch", "auto", "auto", SILENT).backend == "torch"
    assert len(asked) == 1
