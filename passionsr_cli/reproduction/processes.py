"""Calibrating in a process of its own: its peak memory is that of one calibration, and one that
is killed for lack of memory does not take the table with it."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import tempfile
from typing import IO, Any

from passionsr_cli.benchmark.processes import ending
from passionsr_cli.checkpoints.catalogue import Checkpoint, find_checkpoint
from passionsr_cli.checkpoints.manifest import StageResult
from passionsr_cli.errors import DeviceError, PassionSRError
from passionsr_cli.fitting.loop import Progress
from passionsr_cli.reproduction.calibrations import Calibration
from passionsr_cli.reproduction.listener import Listener

COMMAND = (sys.executable, "-m", "passionsr_cli.reproduction.worker")
# After Ctrl-C, which the child hears too, a fit ends its step and saves.
SAVING_SECONDS = 10
_log = logging.getLogger(__name__)


def calibrate(calibration: Calibration, listener: Listener) -> Checkpoint:
    """Make a row's checkpoint, going on with an unfinished run of its name.

    Raises `PassionSRError` with what the calibration said, or with how its process ended.
    Whatever interrupts the wait ends the process too; its run can then be resumed.
    """
    request = {
        "settings": calibration.settings.model_dump(mode="json"),
        "name": calibration.name,
        "resume": calibration.state == "unfinished",
    }
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as messages,
        subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            encoding="utf-8",
        ) as process,
    ):
        try:
            error = _converse(process, request, listener)
            code = process.wait()
        except BaseException:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAVING_SECONDS)
            process.kill()
            raise
        _give_up(code, error, messages)
    return find_checkpoint(calibration.name)


def _converse(process: subprocess.Popen[str], request: dict[str, Any], listener: Listener) -> str:
    """Ask, and pass on what is told; returns the error, if there was one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        json.dump(request, process.stdin)
    error = ""
    for line in process.stdout:
        ((kind, value),) = json.loads(line).items()
        if kind == "images":
            listener.images(*value)
        elif kind == "step":
            listener.step(Progress(**value))
        elif kind == "stage":
            listener.stage(StageResult(**value))
        else:
            error = value
    return error


def _give_up(code: int, error: str, messages: IO[str]) -> None:
    """Raise what went wrong, if something did."""
    messages.seek(0)
    said = messages.read()
    if error or code:
        _log.warning("%s", said)
    if error:
        raise PassionSRError(error)
    if code:
        raise DeviceError(ending(code, said))
