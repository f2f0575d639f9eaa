"""Progress on stderr: lines, and bars while a `with` block lasts; lines of a log without a
terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TypeVar

from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from passionsr_cli.progress import NO_DETAILS, Silent
from passionsr_cli.system.text import one_line
from passionsr_cli.terminal.console import console_for, progress_console, show_note

B = TypeVar("B", bound="_Bars")
# Without a terminal long tasks are told of so often, and at their end.
LOG_EVERY_SECONDS = 20.0
STARTING = "starting"


class Lines(Silent):
    """A line for each note and result, and for what begins and has no measure."""

    def started(self, task: str, total: float | None = None) -> None:
        if total is None:
            show_note(task)

    def note(self, text: str) -> None:
        show_note(text)

    def done(self, result: object) -> None:
        show_note(str(result))


class _Log:
    """Tasks as lines of a log; those that are soon over leave none."""

    def __init__(self) -> None:
        self._totals: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def started(self, task: str, total: float) -> None:
        self._totals[task] = total
        self._began.setdefault(task, time.monotonic())

    def step(self, task: str, done: float, details: Mapping[str, float]) -> None:
        now, total = time.monotonic(), self._totals.get(task)
        began = self._began.setdefault(task, now)
        over = done == total and task in self._told
        if not over and now - self._told.get(task, began) < LOG_EVERY_SECONDS:
            return
        self._told[task] = now
        of = "" if total is None else f"/{total:g}"
        shown = "".join(f", {name} {value:.3g}" for name, value in details.items())
        show_note(f"{task}: {done:g}{of}{shown}, {now - began:.0f} s")


class _Bars(Lines):
    """Lines, and below them bars of these columns; `transient` ones disappear at the end."""

    def __init__(self, *columns: ProgressColumn, transient: bool) -> None:
        console = console_for(progress_console)
        self._log = None if console.is_terminal else _Log()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            console=console,
            transient=transient,
            disable=self._log is not None,
        )
        self._tasks: dict[str, TaskID] = {}
        # Imports and models take seconds before there is a task.
        self._starting: TaskID | None = None

    def __enter__(self: B) -> B:
        self._starting = self._progress.add_task(STARTING, total=None, details="")
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._begun()
        self._progress.stop()

    def _begun(self) -> None:
        if self._starting is not None:
            self._progress.remove_task(self._starting)
            self._starting = None

    def started(self, task: str, total: float | None = None) -> None:
        if total is None:
            super().started(task)
            return
        if self._log is not None:
            self._log.started(task, total)
        self._show(task, total)

    def _show(self, task: str, total: float | None) -> None:
        self._begun()
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(_title(task), total=total, details="")

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        if self._log is not None:
            self._log.step(task, done, details)
        self._show(task, None)
        shown = "  ".join(f"{name} {value:.3g}" for name, value in details.items())
        self._progress.update(self._tasks[task], completed=done, details=shown)


class StepBars(_Bars):
    """A bar for each task, which stays: steps, details such as losses, and time."""

    def __init__(self) -> None:
        columns = (MofNCompleteColumn(), TextColumn("{task.fields[details]}"))
        time = TimeRemainingColumn(elapsed_when_finished=True)
        super().__init__(*columns, time, transient=False)


class DownloadBars(_Bars):
    """A bar for each file that is being fetched."""

    def __init__(self) -> None:
        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        super().__init__(*columns, transient=True)


class CurrentBar(_Bars):
    """One bar, of what goes on now."""

    def __init__(self) -> None:
        columns = (MofNCompleteColumn(), TextColumn("{task.fields[details]}"))
        super().__init__(*columns, TimeRemainingColumn(), transient=True)

    def started(self, task: str, total: float | None = None) -> None:
        if total is None and self._log is None:
            self._show(task, None)
        else:
            super().started(task, total)

    def _show(self, task: str, total: float | None) -> None:
        if task not in self._tasks:
            for shown in self._tasks.values():
                self._progress.remove_task(shown)
            self._tasks = {}
        super()._show(task, total)


class ImageBar(_Bars):
    """One bar for all images: how many are done, counting shares of those that are not."""

    def __init__(self, count: int) -> None:
        columns = (TextColumn("{task.completed:.1f}/{task.total}"), _Rate("images"))
        super().__init__(*columns, TimeRemainingColumn(), transient=True)
        # Each image has a line of its own where there are no bars.
        self._log = None
        self._all = self._progress.add_task("upscaling", total=count)
        self._finished, self._shares = 0, dict[str, float]()

    def __enter__(self) -> ImageBar:
        self._progress.start()
        return self

    def started(self, task: str, total: float | None = None) -> None:
        self.step(task, 0.0)

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        self._shares[task] = done
        # A copy: several threads report.
        completed = self._finished + sum(list(self._shares.values()))
        self._progress.update(self._all, completed=completed)

    def done(self, result: object) -> None:
        self._finished += 1
        # An outcome, told by the loop that prints it.
        self._shares.pop(getattr(result, "source", ""), None)
        self._progress.update(self._all, completed=self._finished)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.2f} {self.unit}/s")


def _title(task: str) -> str:
    """A task's name as rich's columns take it, which read markup."""
    return escape(one_line(task))
