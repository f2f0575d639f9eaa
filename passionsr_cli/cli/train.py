"""passionsr train"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passionsr_cli.cli.console import command, output, progress_console
from passionsr_cli.cli.options import DeviceOption, PrecisionOption
from passionsr_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.progress import Progress as Bars

    from passionsr_cli.fitting.loop import Progress
    from passionsr_cli.store import Entry
    from passionsr_cli.training.retrainer import Agreement
    from passionsr_cli.training.settings import RetrainingStage, TrainingStage
    from passionsr_cli.training.validation import Validation


@command
def train(
    name: Annotated[str, typer.Option(metavar="NAME", help="What the model will be called.")],
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of sharp photographs to learn from. With --from the default is the "
            "sample: photographs.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="Stages, degradation and more. Default: train-mini, or retrain with --from.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Move this model to another timestep."),
    ] = None,
    timestep: Annotated[
        int | None, typer.Option(metavar="T", help="The timestep a model is moved to.")
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(metavar="R", help="Rank of what is learned there. Default: 32.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="model|hr", help="Whose images are wanted there. Default: the model's own."
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Train a one-step model from scratch, or move one to another timestep.

    The same command again goes on after a stop.
    """
    where = (device or "auto", precision or "auto")
    moving = {"timestep": timestep, "lora_rank": lora_rank, "teacher": teacher}
    if source is None:
        for option, value in moving.items():
            if value is not None:
                raise ConfigError(f"--{option.replace('_', '-')} needs --from MODEL")
        if photos is None:
            raise ConfigError("give --photos DIR, or --from MODEL to start from one")
        entry = _train(name, photos, config or "train-mini", where)
    else:
        if timestep is None:
            raise ConfigError("--from needs --timestep T")
        options = {"model": source, **moving}
        entry = _retrain(name, photos, config, options, where)
    output.print(f"{entry.folder}", soft_wrap=True, markup=False)
    output.print(f"use it: passionsr upscale photo.jpg --model {name}", markup=False)


def _train(name: str, photos: Path, config: str, where: tuple[str, str]) -> Entry:
    from passionsr_cli.config import settings_from
    from passionsr_cli.training.settings import TrainingSettings

    settings = settings_from(config, TrainingSettings)

    from passionsr_cli import api
    from passionsr_cli.cli.progress import step_progress

    def on_validation(scores: Validation) -> None:
        natural = scores.natural_psnr
        ends = "" if natural is None else f", natural {natural:.2f} dB"
        progress_console.print(
            f"{scores.stage} {scores.step}: {scores.psnr:.2f} dB on photographs not trained "
            f"on{ends} (bicubic {scores.bicubic_psnr:.2f} dB), {scores.minutes:.0f} min"
        )

    with step_progress() as bars:
        on_step = _shown(bars, settings.stages)
        return api.train(settings, photos, name, *where, on_step, on_validation)


def _retrain(
    name: str,
    photos: Path | None,
    config: str | None,
    options: dict[str, Any],
    where: tuple[str, str],
) -> Entry:
    from passionsr_cli.config import settings_from
    from passionsr_cli.training.settings import RetrainingSettings

    configs = ["retrain", *([config] if config else [])]
    settings = settings_from(configs, RetrainingSettings, options)

    from passionsr_cli import api
    from passionsr_cli.cli.progress import step_progress

    def on_agreement(row: Agreement) -> None:
        progress_console.print(
            f"{row.stage} {row.step}: {row.image_psnr:.2f} dB to the model at its own timestep, "
            f"{row.minutes:.1f} min"
        )

    with step_progress() as bars:
        on_step = _shown(bars, settings.stages)
        return api.retrain(settings, photos, name, *where, on_step, on_agreement)


def _shown(
    bars: Bars, stages: Sequence[TrainingStage | RetrainingStage]
) -> Callable[[Progress], None]:
    """A listener that moves a bar for each stage."""
    batch_sizes = {stage.name: stage.batch_size for stage in stages}
    tasks = {
        stage.name: bars.add_task(stage.name, total=stage.steps, start=False, details="")
        for stage in stages
    }

    def on_step(done: Progress) -> None:
        task = tasks[done.stage]
        if not bars.tasks[task].started:
            bars.start_task(task)
        losses = "  ".join(f"{key} {value:.4f}" for key, value in done.losses.items())
        images = done.steps_per_second * batch_sizes[done.stage]
        bars.update(
            task,
            completed=done.step,
            details=f"{losses}  lr {done.learning_rate:.1e}  {images:.1f} images/s",
        )

    return on_step
