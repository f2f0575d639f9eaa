"""passionsr train"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from passionsr_cli.cli.options import DeviceOption, JsonOption, PrecisionOption
from passionsr_cli.errors import ConfigError
from passionsr_cli.terminal.console import command, output, print_json


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
    as_json: JsonOption = False,
) -> None:
    """Train a one-step model from scratch, or move one to another timestep.

    The same command again goes on after a stop.

    \b
    passionsr train --name mine --photos photographs
    passionsr train --name mini-t49 --from mini --timestep 49
    passionsr train --name mine --photos photographs --config mine.yaml
    """
    moving = {"timestep": timestep, "lora_rank": lora_rank, "teacher": teacher}
    _check_source(source, photos, moving)

    from passionsr_cli import api
    from passionsr_cli.layering import settings_from
    from passionsr_cli.retiming.settings import RetrainingSettings
    from passionsr_cli.terminal.progress import StepBars
    from passionsr_cli.training.settings import TrainingSettings

    where = (device or "auto", precision or "auto")
    try:
        if source is None:
            assert photos is not None
            training = settings_from(config or "train-mini", TrainingSettings)
            with StepBars() as bars:
                entry = api.train(training, photos, name, *where, bars)
        else:
            configs = ["retrain", *([config] if config else [])]
            options = {"model": source, **moving}
            retraining = settings_from(configs, RetrainingSettings, options)
            with StepBars() as bars:
                entry = api.retrain(retraining, photos, name, *where, bars)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("go on with the same command") from None
    if as_json:
        print_json({"name": entry.name, "folder": str(entry.folder)})
        return
    output.print(f"{entry.folder}", soft_wrap=True, markup=False)
    output.print(f"use it: passionsr upscale photo.jpg --model {name}", markup=False)


def _check_source(source: str | None, photos: Path | None, moving: Mapping[str, object]) -> None:
    """Refuse options of the one kind of training with the other."""
    if source is not None:
        if moving["timestep"] is None:
            raise ConfigError("--from needs --timestep T")
        return
    for option, value in moving.items():
        if value is not None:
            raise ConfigError(f"--{option.replace('_', '-')} needs --from MODEL")
    if photos is None:
        raise ConfigError("give --photos DIR, or --from MODEL to start from one")
