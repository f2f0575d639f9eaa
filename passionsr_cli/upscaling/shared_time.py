"""Time of works that overlap, divided between them."""

from __future__ import annotations

import threading
import time


class SharedTime:
    """A clock for works that overlap: of each moment they all have the same part, so that their
    seconds add up to those that pass."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going_on, self._seconds_of_each, self._read = 0, 0.0, time.perf_counter()

    def begun(self) -> float:
        """A work begins; what `ended` wants to know."""
        return self._changed(1)

    def ended(self, begun: float) -> float:
        """That work ends; its seconds."""
        return self._changed(-1) - begun

    def _changed(self, by: int) -> float:
        with self._lock:
            now = time.perf_counter()
            self._seconds_of_each += (now - self._read) / max(1, self._going_on)
            self._read, self._going_on = now, self._going_on + by
            return self._seconds_of_each
