"""The loss curve of a calibration, over all its interruptions."""

from __future__ import annotations

import time
from typing import Any


class Curve:
    """(stage, step, seconds since the start, loss, learning rate) of every step so far."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, float, float, float]] = []
        self.begun: dict[str, float] = {}
        self.spent, self.started = 0.0, time.monotonic()

    def seconds(self) -> float:
        """Seconds that all runs took so far."""
        return self.spent + time.monotonic() - self.started

    def since(self, task: str) -> float:
        """Seconds since this was asked of the task for the first time, in all runs together."""
        return self.seconds() - self.begun.setdefault(task, self.seconds())

    def note(self, stage: str, step: int, loss: float, learning_rate: float) -> None:
        """Add a step that was just made."""
        self.rows.append((stage, step, self.seconds(), loss, learning_rate))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows), "begun": dict(self.begun), "seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [tuple(row) for row in state_dict["rows"]]
        self.begun = dict(state_dict["begun"])
        self.spent, self.started = state_dict["seconds"], time.monotonic()
