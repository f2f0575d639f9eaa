"""Progress of long work: the one protocol by which it reports, and the reporter that is silent."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

NO_DETAILS: Mapping[str, float] = MappingProxyType({})


class Reporter(Protocol):
    """Hears how long work goes on. Methods may be called from several threads."""

    def started(self, task: str, total: float | None = None) -> None:
        """A task begins, of so many units; None where nobody knows of how many."""

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        """So many of the task's units are done; `details` are numbers to watch, such as losses."""

    def note(self, text: str) -> None:
        """Something a person should know, which stops nothing."""

    def done(self, result: object) -> None:
        """One of several results is there, of which `str` makes a line for people."""


class Silent:
    """A reporter that does nothing; base of those that hear a part."""

    def started(self, task: str, total: float | None = None) -> None: ...

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None: ...

    def note(self, text: str) -> None: ...

    def done(self, result: object) -> None: ...


SILENT = Silent()


class Notes(Silent):
    """A reporter that keeps the notes it hears, in `texts`."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)
