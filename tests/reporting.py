"""Reporters that tests watch with, and one that ends the work."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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


class KillAt(Notes):
    """Ends the work at one step of one task."""

    def __init__(self, task: str, number: int) -> None:
        super().__init__()
        self.place = task, number

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        if (task, done) == self.place:
            raise Kill


@contextmanager
def killed_at(task: str, number: int) -> Iterator[KillAt]:
    """A reporter that kills the work inside at this step.

    Until then its state is saved after every step and batch, as on a slow machine.
    """
    minutes = itertools.count(step=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passionsr_cli.fitting.loop.time.monotonic", minutes.__next__)
        with pytest.raises(Kill):
            yield KillAt(task, number)
