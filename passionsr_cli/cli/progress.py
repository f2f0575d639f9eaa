"""Progress bars on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

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

from passionsr_cli.cli.console import decibels, printable, progress_console, show_note
from passionsr_cli.evaluation.listener import Listener
from passionsr_cli.reproduction import listener as tables

if TYPE_CHECKING:
    from passionsr_cli.checkpoints.manifest import StageResult
    from passionsr_cli.fitting.loop import Progress as Step

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
        disable=not progress_console.is_terminal,
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
                disable=not progress_console.is_terminal,
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


class TableProgress(_Shown, tables.Listener):
    """A bar for what is being done to a row; stages of a calibration leave a line."""

    def __init__(self) -> None:
        super().__init__(
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[details]}"),
                TimeRemainingColumn(),
                console=progress_console,
                transient=True,
            )
        )
        self._what, self._task = "", self._progress.add_task("", details="", visible=False)

    def start(self, what: str, row: str, count: int) -> None:
        self._begin(f"{what} {printable(row)}", count)

    def advance(self) -> None:
        self._progress.advance(self._task)

    def images(self, what: str, done: int, count: int) -> None:
        self._begin(what, count)
        self._progress.update(self._task, completed=done)

    def step(self, progress: Step) -> None:
        self._begin(progress.stage, progress.steps)
        losses = "  ".join(f"{key} {value:.2e}" for key, value in progress.losses.items())
        self._progress.update(self._task, completed=progress.step, details=losses)

    def stage(self, result: StageResult) -> None:
        show_note(stage_line(result))

    def _begin(self, what: str, count: int) -> None:
        if what != self._what:
            self._progress.remove_task(self._task)
            self._what, self._task = what, self._progress.add_task(what, total=count, details="")


def stage_line(result: StageResult) -> str:
    """'encoder: 44.21 dB to full precision, 60 s'."""
    quality = decibels(result.image_psnr)
    return f"{result.name}: {quality} dB to full precision, {result.seconds:.0f} s"
