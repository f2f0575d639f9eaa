"""passionsr upscale"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passionsr_cli.cli.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    given,
)
from passionsr_cli.terminal.console import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    command,
    show_error,
    show_result,
)

if TYPE_CHECKING:
    from passionsr_cli.config import UpscaleSettings
    from passionsr_cli.inference.tiled import TiledUpscaler
    from passionsr_cli.system.processes import Processes
    from passionsr_cli.terminal.progress import ImageBar
    from passionsr_cli.upscaling.images import Outcome
    from passionsr_cli.upscaling.run import Work


@command
def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Image files, folders, patterns ('in/**/*.jpg'), sample:NAME."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file for one input, a folder for several, in which folders are mirrored. "
            "Default: beside the input.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="What results are called, of {stem}, {ext}, {scale} and {model}, with a suffix "
            "or as .png. Default: '{stem}_{scale}'.",
        ),
    ] = None,
    recursive: Annotated[
        bool | None,
        typer.Option("--recursive/--no-recursive", help="Folders in folders, too. Default: yes."),
    ] = None,
    model: ModelOption = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR|none",
            help="A calibrated model (see passionsr calibrate). Default: the embedded "
            "model's own on CPUs with integer products; none is full precision.",
        ),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="auto|torch|openvino",
            help="What computes. Default: openvino on a CPU, torch on a GPU.",
        ),
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="auto|PX",
            help="Side of a tile of the result, 0: no tiles. Default: what is fast and fits in "
            "memory.",
        ),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(metavar="PX", help="How far tiles overlap. Default: 64.")
    ] = None,
    color_fix: Annotated[
        str | None,
        typer.Option(metavar="wavelet|adain|none", help="Default: what the model was made for."),
    ] = None,
    realism: Annotated[
        float | None,
        typer.Option(
            metavar="0…1",
            help="0 is faithful, 1 invents believable detail. Default: the model's own setting.",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(metavar="FACTOR", help="1 to 8, any number. Default: 4, the model's own."),
    ] = None,
    width: Annotated[
        int | None, typer.Option(metavar="PX", help="Of the result, instead of --scale.")
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Likewise; the other side keeps the proportions."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="contain|cover|fill",
            help="With --width and --height: lie inside (default), cover, or stretch.",
        ),
    ] = None,
    depth: Annotated[
        str | None,
        typer.Option(metavar="auto|8|16", help="Bits per channel. Default: those of the input."),
    ] = None,
    strip_metadata: Annotated[
        bool | None,
        typer.Option("--strip-metadata", help="Leave out ICC profile (then sRGB), EXIF and XMP."),
    ] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite", help="Replace results that exist.")
    ] = None,
    skip_existing: Annotated[
        bool | None, typer.Option("--skip-existing", help="Leave out images that have results.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="local|ray", help="Who shares out the images. Default: local."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upscale photographs four times in each direction.

    A run over many images that was stopped goes on with the same command.
    `accelerate launch -m passionsr_cli upscale` shares them between processes.
    """
    from passionsr_cli.config import UpscaleSettings
    from passionsr_cli.layering import settings_from

    settings = settings_from(config, UpscaleSettings, given(locals(), UpscaleSettings))

    from passionsr_cli.cli.outcomes import summarise
    from passionsr_cli.system.processes import Processes
    from passionsr_cli.terminal.progress import ImageBar
    from passionsr_cli.upscaling.images import Failed, open_upscaler, without_work
    from passionsr_cli.upscaling.planning import Job, Refused
    from passionsr_cli.upscaling.run import plan_work

    work = plan_work(inputs, settings)
    refused = [item for item in work.planned if isinstance(item, Refused)]
    unfinished = work.journal is not None and work.journal.folder.exists()
    settled = [without_work(item) for item in work.planned if not isinstance(item, Job)]
    if not unfinished and len(settled) == len(work.planned):
        # No need to load a model to say so.
        summarise(None, settings, [*settled], as_json)
        raise typer.Exit(EXIT_ERROR if refused else 0)
    processes = Processes()
    outcomes: list[Outcome] = []
    upscaler = None
    try:
        with ImageBar(len(processes.share(work.planned))) as bar:
            if settings.engine == "local":
                upscaler = open_upscaler(settings, bar, processes)
            _work(upscaler, settings, work, processes, outcomes, bar, quiet=as_json)
        outcomes = processes.gather(outcomes)
    except KeyboardInterrupt:
        summarise(upscaler, settings, outcomes, as_json)
        show_error(
            f"interrupted: {len(outcomes)} of {len(work.planned)} images were worked on"
            + ("; the same command goes on" if work.journal else "")
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if processes.is_first:
        summarise(upscaler, settings, outcomes, as_json)
    if any(isinstance(outcome, Failed) for outcome in outcomes):
        raise typer.Exit(EXIT_ERROR)


def _work(
    upscaler: TiledUpscaler | None,
    settings: UpscaleSettings,
    work: Work,
    processes: Processes,
    outcomes: list[Outcome],
    bar: ImageBar,
    quiet: bool,
) -> None:
    """Run all jobs, one line for each result."""
    from passionsr_cli.upscaling.images import Done
    from passionsr_cli.upscaling.run import upscale_on_ray, upscale_planned

    if upscaler is None:
        results = upscale_on_ray(work, settings, bar)
    else:
        results = upscale_planned(upscaler, work, settings, bar, processes)
    # However the loop ends, what is being worked on is dropped.
    with closing(results) as found:
        for outcome in found:
            outcomes.append(outcome)
            if isinstance(outcome, Done) and not quiet:
                show_result(str(outcome))
