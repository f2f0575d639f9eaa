"""Call a function in a child process: its peak memory is its own, and so is its end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from passionsr_cli.errors import DeviceError, PassionSRError
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system import interruptions

COMMAND = (sys.executable, "-m", "passionsr_cli.system.child")
_log = logging.getLogger(__name__)


def run_child(
    function: str,
    arguments: Mapping[str, Any],
    reporter: Reporter | None = None,
    environment: Mapping[str, str] | None = None,
    grace_seconds: float = 0.0,
) -> Any:
    """Call `function` (module:name) with these arguments in a child process, all of it as JSON.

    It gets a `reporter` where there is one to hear it. Raises `PassionSRError` with what the
    function said, `DeviceError` with how its process ended. Whatever interrupts the wait, such as
    Ctrl-C, which the child hears too, or SIGTERM, which it is told, ends the child after
    `grace_seconds`.
    """
    request = {"function": function, "arguments": arguments, "reports": reporter is not None}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as messages,
        subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **(environment or {})},
        ) as process,
    ):
        try:
            answer = _converse(process, request, reporter or SILENT)
            code = process.wait()
        except BaseException:
            if interruptions.came():
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_seconds)
            process.kill()
            raise
        messages.seek(0)
        said = messages.read()
    if "error" in answer:
        _log.warning("%s", said)
        raise PassionSRError(*answer["error"])
    if code or "result" not in answer:
        _log.warning("%s", said)
        raise DeviceError(ending(code, said))
    return answer["result"][0]


def _converse(
    process: subprocess.Popen[str], request: Mapping[str, Any], reporter: Reporter
) -> dict[str, Any]:
    """Ask, and pass on what is reported; returns the last thing said that is not a report."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        json.dump(request, process.stdin)
    heard: dict[str, Callable[..., None]] = {
        "started": reporter.started,
        "step": reporter.step,
        "note": reporter.note,
        "done": reporter.done,
    }
    answer: dict[str, Any] = {}
    for line in process.stdout:
        try:
            ((kind, values),) = json.loads(line).items()
        except (ValueError, AttributeError):
            # A process that dies may end in mid-line.
            continue
        if kind in heard:
            heard[kind](*values)
        else:
            answer = {kind: values}
    return answer


def ending(code: int, messages: str) -> str:
    """Explain how a process ended that gave no answer, by its exit code and its stderr."""
    last = (messages.strip().splitlines() or ["it said nothing"])[-1]
    if code >= 0:
        return f"its process ended with exit code {code}: {last}"
    name = signal.Signals(-code).name
    if -code == getattr(signal, "SIGKILL", None):
        return f"its process was killed ({name}), most likely for lack of memory"
    return f"its process was ended by {name}"
