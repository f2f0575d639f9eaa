"""Progress bars on stderr."""

from __future__ import annotations

from typing import TypeVar

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

from passionsr_cli.cli.console import printable, progress_console, show_note
from passionsr_cli.evaluation.listener import Listener

S = TypeVar("S", bound="_Shown")


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.2f} {self.unit}/s")


def image_progress() -> Progress:
    """Images done, images/s and time left; disappears when finished."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total}"),
        _Rate("images"),
        TimeRemainingColumn(),
        console=progress_console,
        transient=True,
    )


def step_progress() -> Progress:
    """Steps or images done, details such as losses, and time left, a line for each stage."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[details]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=progress_console,
    )


class _Shown:
    """Bars that are there as long as a `with` block, and notes above them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self: S) -> S:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        show_note(text)


class DownloadProgress(_Shown):
    """Notes, and a bar for the file that is being fetched."""

    def __init__(self) -> None:
        super().__init__(
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=progress_console,
                transient=True,
            )
        )
        self._tasks: dict[str, TaskID] = {}

    def bytes(self, name: str, done: int, size: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(printable(name))
        self._progress.update(self._tasks[name], completed=done, total=size or None)


class EvaluationProgress(_Shown, Listener):
    """A bar for each row that is upscaled or scored; disappears when finished."""

    def __init__(self) -> None:
        super().__init__(image_progress())
        self._task: TaskID | None = None

    def start(self, what: str, row: str, count: int) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(f"{what} {printable(row)}", total=count)

    def advance(self) -> None:
        if self._task is not None:
            self._progress.advance(self._task)
