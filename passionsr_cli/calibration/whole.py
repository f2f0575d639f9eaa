"""Progress of a calibration as a whole, for the person who waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from passionsr_cli.forecast.minutes import StageWork
from passionsr_cli.progress import NO_DETAILS, Reporter

TASK, PERCENT = "calibrating", 100


class Whole(Reporter):
    """Passes on what a calibration reports, and reports all of it as one task, in percent.

    A stage that an earlier run has finished counts as done when the next one is entered.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter, self.before = reporter, 0.0
        self.stages: Sequence[StageWork] = ()
        self.number, self.reached = 0, 0.0
        self.totals: dict[str, float] = {}

    def plan(self, before: float, stages: Sequence[StageWork]) -> None:
        """The stages are known from now on, and the seconds of the work ahead of the first one."""
        self.before, self.stages = before, stages
        self.reporter.started(TASK, PERCENT)

    def enter(self, number: int) -> None:
        """A stage begins: that of this number, from 0."""
        self.number = number
        finished = sum(work.seconds for work in self.stages[:number])
        self._reach(self.before + finished)

    def started(self, task: str, total: float | None = None) -> None:
        self.reporter.started(task, total)
        if total:
            self.totals[task] = total

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        self.reporter.step(task, done, details)
        if not self.stages or task not in self.totals:
            return
        work, share = self.stages[self.number], done / self.totals[task]
        finished = sum(work.seconds for work in self.stages[: self.number])
        if task == work.name:
            self._reach(self.before + finished + work.observing + work.learning * share)
        else:
            self._reach(self.before + finished + work.observing * share)

    def note(self, text: str) -> None:
        self.reporter.note(text)

    def done(self, result: object) -> None:
        # The stage is over, whatever else its seconds were for.
        if self.stages:
            self._reach(self.before + sum(work.seconds for work in self.stages[: self.number + 1]))
        self.reporter.done(result)

    def _reach(self, seconds: float) -> None:
        # Several passes of one stage observe; none takes back what is done.
        self.reached = max(self.reached, seconds)
        whole = self.before + sum(work.seconds for work in self.stages)
        place = {"stage": self.number + 1, "of": len(self.stages)}
        self.reporter.step(TASK, PERCENT * self.reached / whole, place)
