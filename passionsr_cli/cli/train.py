"""passionsr train"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from passionsr_cli.cli.options import DeviceOption, JsonOption, PrecisionOption
from passionsr_cli.errors import ConfigError
from passionsr_cli.terminal.console import command, output, print_json, resumable


@command
def train(
    name: Annotated[str, typer.Option(metavar="NAME", help="What the model will be called.")],
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of sharp photographs to learn from. Where a model is given the default "
            "are the sample: photographs.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="Stages, losses and more. Default: train-mini, retrain with --from, distil with "
            "--distil-decoder.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Move this model to another timestep."),
    ] = None,
    distilled: Annotated[
        str | None,
        typer.Option("--distil-decoder", metavar="MODEL", help="Halve this model's decoder."),
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
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model, move its timestep, or narrow its decoder.

    The same command again goes on after a stop.

    \b
    passionsr train --name mine --photos photographs
    passionsr train --name mini-t49 --from mini --timestep 49
    passionsr train --name light --distil-decoder osediff --photos photographs
    """
    moving = {"timestep": timestep, "lora_rank": lora_rank, "teacher": teacher}
    _check_source(source, distilled, photos, moving)

    from passionsr_cli.imaging.files import images_in
    from passionsr_cli.models.catalogue import find_present

    # What is not there is refused before seconds of imports.
    if photos is not None:
        images_in(photos, "--photos")
    if given_model := source or distilled:
        find_present(given_model)

    from passionsr_cli import api
    from passionsr_cli.layering import settings_from
    from passionsr_cli.retiming.settings import RetrainingSettings
    from passionsr_cli.terminal.progress import StepBars
    from passionsr_cli.training.settings import DistillationSettings, TrainingSettings

    where, own = (device or "auto", precision or "auto"), [config] if config else []
    with resumable(), StepBars() as bars:
        if distilled is not None:
            options: dict[str, object] = {"model": distilled}
            distilling = settings_from(["distil", *own], DistillationSettings, options)
            entry = api.distil(distilling, photos, name, *where, bars)
        elif source is not None:
            options = {"model": source, **moving}
            retraining = settings_from(["retrain", *own], RetrainingSettings, options)
            entry = api.retrain(retraining, photos, name, *where, bars)
        else:
            assert photos is not None
            training = settings_from(config or "train-mini", TrainingSettings)
            entry = api.train(training, photos, name, *where, bars)
    if as_json:
        print_json({"name": entry.name, "folder": str(entry.folder)})
        return
    output.print(f"{entry.folder}", soft_wrap=True, markup=False)
    output.print(f"use it: passionsr upscale photo.jpg --model {name}", markup=False)


def _check_source(
    source: str | None, distilled: str | None, photos: Path | None, moving: Mapping[str, object]
) -> None:
    """Refuse options of one kind of training with another."""
    if source is not None and distilled is not None:
        raise ConfigError("give --from or --distil-decoder, not both")
    if source is not None:
        if moving["timestep"] is None:
            raise ConfigError("--from needs --timestep T")
        return
    for option, value in moving.items():
        if value is not None:
            raise ConfigError(f"--{option.replace('_', '-')} needs --from MODEL")
    if photos is None and distilled is None:
        raise ConfigError("give --photos DIR, or --from MODEL to start from one")
