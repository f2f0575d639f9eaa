"""Progress bars on stderr."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from passionsr_cli.cli.console import progress_console


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
