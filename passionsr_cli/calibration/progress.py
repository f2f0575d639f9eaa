"""What a calibration tells while it runs, and what it remembers of that."""

from __future__ import annotations

import time
from typing import Any, Protocol

from passionsr_cli.checkpoints.manifest import StageResult
from passionsr_cli.fitting.loop import Progress


class Listener(Protocol):
    """Hears how a calibration goes on."""

    def images(self, what: str, done: int, count: int) -> None:
        """A pass over the calibration images."""
        ...

    def step(self, progress: Progress) -> None:
        """A step of a fit."""
        ...

    def stage(self, result: StageResult) -> None:
        """A stage is finished."""
        ...


class Quiet:
    """A listener that says nothing."""

    def images(self, what: str, done: int, count: int) -> None: ...

    def step(self, progress: Progress) -> None: ...

    def stage(self, result: StageResult) -> None: ...


class Curve:
    """(stage, step, seconds since the start, loss, learning rate) of every step so far."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, float, float, float]] = []
        self.spent, self.started = 0.0, time.monotonic()

    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows), "seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [tuple(row) for row in state_dict["rows"]]
        self.spent, self.started = state_dict["seconds"], time.monotonic()
