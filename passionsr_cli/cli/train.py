"""passionsr train"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passionsr_cli.cli.console import command, output
from passionsr_cli.cli.options import DeviceOption, PrecisionOption
from passionsr_cli.errors import ConfigError

if TYPE_CHECKING:
    from passionsr_cli.store import Entry


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
    from passionsr_cli.layering import settings_from
    from passionsr_cli.training.settings import TrainingSettings

    settings = settings_from(config, TrainingSettings)

    from passionsr_cli import api
    from passionsr_cli.cli.progress import StepBars

    with StepBars() as bars:
        return api.train(settings, photos, name, *where, bars)


def _retrain(
    name: str,
    photos: Path | None,
    config: str | None,
    options: dict[str, Any],
    where: tuple[str, str],
) -> Entry:
    from passionsr_cli.layering import settings_from
    from passionsr_cli.training.settings import RetrainingSettings

    configs = ["retrain", *([config] if config else [])]
    settings = settings_from(configs, RetrainingSettings, options)

    from passionsr_cli import api
    from passionsr_cli.cli.progress import StepBars

    with StepBars() as bars:
        return api.retrain(settings, photos, name, *where, bars)
