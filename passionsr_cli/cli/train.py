"""passionsr train"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passionsr_cli.cli.console import command, output, progress_console
from passionsr_cli.cli.options import DeviceOption, PrecisionOption

if TYPE_CHECKING:
    from passionsr_cli.fitting.loop import Progress
    from passionsr_cli.training.validation import Validation


@command
def train(
    photos: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of sharp photographs to learn from.")
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="What the model will be called.")],
    config: Annotated[
        str, typer.Option(metavar="FILE|PRESET", help="Architecture, degradation and stages.")
    ] = "train-mini",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Train a one-step model from scratch; the same command again goes on after a stop."""
    from passionsr_cli.config import settings_from
    from passionsr_cli.training.settings import TrainingSettings

    settings = settings_from(config, TrainingSettings)

    from passionsr_cli import api
    from passionsr_cli.cli.progress import step_progress

    batch_sizes = {stage.name: stage.batch_size for stage in settings.stages}
    with step_progress() as progress:
        tasks = {
            stage.name: progress.add_task(stage.name, total=stage.steps, start=False, details="")
            for stage in settings.stages
        }

        def on_step(done: Progress) -> None:
            task = tasks[done.stage]
            if not progress.tasks[task].started:
                progress.start_task(task)
            losses = "  ".join(f"{key} {value:.4f}" for key, value in done.losses.items())
            images = done.steps_per_second * batch_sizes[done.stage]
            progress.update(
                task,
                completed=done.step,
                details=f"{losses}  lr {done.learning_rate:.1e}  {images:.1f} images/s",
            )

        def on_validation(scores: Validation) -> None:
            progress_console.print(
                f"{scores.stage} {scores.step}: {scores.psnr:.2f} dB on photographs not trained "
                f"on (bicubic {scores.bicubic_psnr:.2f} dB), {scores.minutes:.0f} min"
            )

        entry = api.train(
            settings,
            photos,
            name,
            device or "auto",
            precision or "auto",
            on_step,
            on_validation,
        )
    output.print(f"{entry.folder}", soft_wrap=True, markup=False)
    output.print(f"use it: passionsr upscale photo.jpg --model {name}", markup=False)
