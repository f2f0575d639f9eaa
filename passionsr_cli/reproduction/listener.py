"""Who hears how the rows of a table come to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from passionsr_cli.evaluation import listener

if TYPE_CHECKING:
    from passionsr_cli.checkpoints.manifest import StageResult
    from passionsr_cli.fitting.loop import Progress


class Listener(listener.Listener):
    """Hears of calibrations as well as of evaluations; does nothing by itself."""

    def images(self, what: str, done: int, count: int) -> None:
        """A pass over the calibration images."""

    def step(self, progress: Progress) -> None:
        """A step of a fit."""

    def stage(self, result: StageResult) -> None:
        """A stage of a calibration is finished."""
