"""Progress on stderr: lines, and bars while a `with` block lasts."""

from __future__ import annotations

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
from passionsr_cli.terminal.console import progress_console, show_note

B = TypeVar("B", bound="_Bars")


class Lines(Silent):
    """A line for each note and result, and for what begins and has no measure."""

    def started(self, task: str, total: float | None = None) -> None:
        if total is None:
            show_note(task)

    def note(self, text: str) -> None:
        show_note(text)

    def done(self, result: object) -> None:
        show_note(str(result))


class _Bars(Lines):
    """Lines, and below them bars of these columns; `transient` ones disappear at the end."""

    def __init__(self, *columns: ProgressColumn, transient: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            console=progress_console,
            transient=transient,
            disable=transient and not progress_console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self: B) -> B:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def started(self, task: str, total: float | None = None) -> None:
        if total is None:
            super().started(task)
        elif task not in self._tasks:
            self._tasks[task] = self._progress.add_task(
                escape(one_line(task)), total=total, details=""
            )

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(
                escape(one_line(task)), total=None, details=""
            )
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
        for shown in self._tasks.values():
            self._progress.remove_task(shown)
        self._tasks = {task: self._progress.add_task(_title(task), total=total, details="")}


class ImageBar(_Bars):
    """One bar for all images: how many are done, counting shares of those that are not."""

    def __init__(self, count: int) -> None:
        columns = (TextColumn("{task.completed:.1f}/{task.total}"), _Rate("images"))
        super().__init__(*columns, TimeRemainingColumn(), transient=True)
        self._all = self._progress.add_task("upscaling", total=count)
        self._finished, self._shares = 0, dict[str, float]()

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
