"""Running a task of `worker` in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from passionsr_cli.errors import DeviceError, PassionSRError

COMMAND = (sys.executable, "-m", "passionsr_cli.benchmark.worker")
_log = logging.getLogger(__name__)


def run_task(name: str, cache: Path, **arguments: Any) -> Any:
    """What a task returns, from a new process with this folder as its cache.

    Raises `PassionSRError` with what the task said, or with how its process ended. Whatever
    interrupts the wait, such as Ctrl-C, ends the process too.
    """
    request = json.dumps({"task": name, "arguments": arguments})
    with subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PASSIONSR_CACHE": str(cache)},
    ) as process:
        try:
            printed, messages = process.communicate(request)
        except BaseException:
            process.kill()
            raise
    try:
        answer = json.loads(printed)
    except ValueError:
        raise DeviceError(ending(process.returncode, messages)) from None
    if "error" in answer:
        _log.warning("%s", messages)
        raise PassionSRError(answer["error"])
    return answer["result"]


def ending(code: int, messages: str) -> str:
    """How a process ended that gave no answer, by its exit code and what it said on stderr."""
    last = (messages.strip().splitlines() or ["it said nothing"])[-1]
    if code >= 0:
        return f"its process ended with exit code {code}: {last}"
    name = signal.Signals(-code).name
    if -code == getattr(signal, "SIGKILL", None):
        return f"its process was killed ({name}), most likely for lack of memory"
    return f"its process was ended by {name}"
