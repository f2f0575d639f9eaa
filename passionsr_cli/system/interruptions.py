"""Signals by which a system asks a process to end, taken for Ctrl-C: what is half-written goes, and
what can be resumed is saved."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

# Those of `kill`, `docker stop` and `timeout`, and of a terminal that closes. Windows has one.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Which of them came.
_received: list[int] = []


def interrupt_at_end(end_at_once: Callable[[], None]) -> None:
    """Have the first such signal do what Ctrl-C would do at that moment, and a further one call
    `end_at_once`. Those that are ignored, as `nohup` has it, stay so."""

    def end(number: int, frame: FrameType | None) -> None:
        if _received:
            end_at_once()
            return
        _received.append(number)
        # Whoever ends a group of processes ends workers too, of whose death torch would raise.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        interrupt = signal.getsignal(signal.SIGINT)
        # Shells have what they start in the background ignore Ctrl-C.
        if not callable(interrupt):
            raise KeyboardInterrupt
        interrupt(number, frame)

    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def came() -> bool:
    """Tell whether one of them has come."""
    return bool(_received)


def exit_code() -> int:
    """The exit code of a process that was interrupted, as shells give it: 130 for Ctrl-C, 143 for
    SIGTERM, 129 for SIGHUP."""
    return 128 + (_received[0] if _received else signal.SIGINT)
