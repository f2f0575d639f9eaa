"""The end of a command: at once when a person or the system asks for it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from passionsr_cli.system import interruptions
from passionsr_cli.system.files import drop_unfinished
from passionsr_cli.terminal import console

THREADS_END_WITHIN_SECONDS = 2.0


def run_to_end(program: Callable[[list[str]], Any], arguments: list[str]) -> None:
    """Run a command line and end the process; at Ctrl-C, SIGTERM and SIGHUP without waiting for
    threads, which may be deep in libraries for minutes: nothing of theirs is half-written."""
    interruptions.interrupt_at_end(_end_at_once)
    try:
        program(arguments)
    except SystemExit as end:
        if end.code == interruptions.exit_code() and _has_threads():
            _end_at_once()
        raise


def _end_at_once() -> None:
    drop_unfinished()
    for stream in (sys.stdout, sys.stderr):
        # One that was being written when a signal came says RuntimeError.
        with suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    os._exit(interruptions.exit_code())


def run_alone(program: Callable[[], None]) -> None:
    """Run what this process is there for.

    Behind what libraries do at the end (`atexit`) they are not taken down object by object, for
    which a small picture would wait a tenth of its time. With `--debug` they are.
    """
    codes: list[int] = []
    # Of all that is done at the end the first to be registered is the last.
    atexit.register(_leave, codes)
    try:
        program()
    except SystemExit as end:
        if isinstance(end.code, int | None) and not console.debugging:
            codes.append(end.code or 0)
        raise


def _leave(codes: list[int]) -> None:
    """Leave with the exit code, if there is one; of what cannot be written Python tells."""
    with suppress(OSError, ValueError):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for code in codes:
            os._exit(code)


def _has_threads() -> bool:
    """Tell whether threads are left that would hold up the end, and give them a moment."""
    others = [
        thread
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.current_thread()
    ]
    deadline = time.monotonic() + THREADS_END_WITHIN_SECONDS
    try:
        for thread in others:
            thread.join(max(0.0, deadline - time.monotonic()))
    except KeyboardInterrupt:
        # Asked twice. Python 3.11 takes a thread that was waited for then for one that has ended.
        return True
    return any(thread.is_alive() for thread in others)
