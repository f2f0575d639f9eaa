"""Reporters that tests watch with, and one that ends the work."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import pytest

from passionsr_cli.progress import NO_DETAILS, Notes


class Heard(Notes):
    """Keeps everything: `steps` as (task, done, details), `results`, and notes in `texts`."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, float, dict[str, float]]] = []
        self.results: list[object] = []

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        self.steps.append((task, done, dict(details)))

    def done(self, result: object) -> None:
        self.results.append(result)

    @property
    def places(self) -> list[tuple[str, float]]:
        """(task, done) of each step."""
        return [(task, done) for task, done, _ in self.steps]


class Kill(BaseException):
    """The process ends."""


HurryT = TypeVar("HurryT", bound="Hurry")
# A step of a task, from 1.
Place = tuple[str, int]


class Hurry(Notes):
    """Knows whether one of some tasks is going on."""

    def __init__(self, tasks: Collection[str]) -> None:
        super().__init__()
        self.tasks, self.there = tasks, False

    def started(self, task: str, total: float | None = None) -> None:
        self.there = task in self.tasks


@contextmanager
def hurried(reporter: HurryT) -> Iterator[HurryT]:
    """During its tasks a minute passes with every look at the clock, so that their state is saved
    after every step and batch, as on a slow machine."""
    real, minutes = time.monotonic, itertools.count(step=60)

    def clock() -> float:
        return real() + (next(minutes) if reporter.there else 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passionsr_cli.fitting.loop.time.monotonic", clock)
        yield reporter


class KillAt(Hurry):
    """Ends the work at one step of one task, the first time or a later one that it begins."""

    def __init__(self, task: str, number: int, time: int = 1) -> None:
        super().__init__({task})
        self.place, self.time, self.times = (task, number), time, 0

    def started(self, task: str, total: float | None = None) -> None:
        super().started(task, total)
        self.times += self.there

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        if (task, done) == self.place and self.times == self.time:
            raise Kill


@contextmanager
def killed_at(task: str, number: int, time: int = 1) -> Iterator[KillAt]:
    """A reporter that kills the work inside at this step, of a task that is `hurried`."""
    with hurried(KillAt(task, number, time)) as killer, pytest.raises(Kill):
        yield killer
