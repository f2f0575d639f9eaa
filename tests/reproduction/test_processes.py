"""A calibration in a process of its own: what it tells, and how it fails."""

from __future__ import annotations

import json
import sys
from io import StringIO

import pytest

from passionsr_cli.checkpoints.manifest import StageResult
from passionsr_cli.errors import DeviceError, PassionSRError
from passionsr_cli.fitting.loop import Progress
from passionsr_cli.reproduction import processes
from passionsr_cli.reproduction.calibrations import calibration_of
from passionsr_cli.reproduction.definitions import RowDefinition
from passionsr_cli.reproduction.listener import Listener
from passionsr_cli.reproduction.processes import calibrate
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.reproduction.worker import Teller, perform
from passionsr_cli.system.memory import process_peak_bytes

ROW = RowDefinition(label="PassionSR", bits="w6a6", method="passionsr")


class _Hearing(Listener):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def images(self, what: str, done: int, count: int) -> None:
        self.heard.append(f"{what} {done}/{count}")

    def step(self, progress: Progress) -> None:
        self.heard.append(f"{progress.stage} {progress.step}/{progress.steps}")

    def stage(self, result: StageResult) -> None:
        self.heard.append(result.name)


def test_it_tells_what_it_does_and_its_memory_is_its_own(settings: ReproductionSettings) -> None:
    listener = _Hearing()
    waste = bytearray(1_500_000_000)
    waste[:: 1 << 12] = bytes(len(waste[:: 1 << 12]))
    assert process_peak_bytes() > 1.5e9
    del waste
    entry = calibrate(calibration_of(ROW, settings), listener)
    assert entry.name == "tiny-w6a6-passionsr-quick"
    for heard in ("encoder 2/2", "encoder", "decoder"):
        assert heard in listener.heard
    assert 1e8 < entry.manifest.peak_memory_bytes < 1.4e9


def test_its_error_is_ours(settings: ReproductionSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"error": "nowhere: no such folder"}
    program = f"import json; input(); print(json.dumps({told}))"
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-c", program))
    with pytest.raises(PassionSRError, match=r"^nowhere: no such folder$"):
        calibrate(calibration_of(ROW, settings), Listener())


def test_the_child_tells_its_errors(settings: ReproductionSettings) -> None:
    calibration = calibration_of(ROW, settings.model_copy(update={"images": "nowhere"}))
    told = StringIO()
    request = {"name": "x", "resume": False, "settings": calibration.settings.model_dump()}
    perform(request, Teller(told))
    perform({**request, "name": None}, Teller(told))
    known, unknown = (json.loads(line)["error"] for line in told.getvalue().splitlines())
    assert known.startswith("nowhere: no such folder; --images")
    assert unknown.startswith("unexpected TypeError: ")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed .SIGKILL., most likely for lack of m"),
        ("raise SystemExit('no luck')", "ended with exit code 1: no luck"),
    ],
)
def test_one_that_dies_is_told(
    program: str, message: str, settings: ReproductionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-c", program))
    with pytest.raises(DeviceError, match=message):
        calibrate(calibration_of(ROW, settings), Listener())
