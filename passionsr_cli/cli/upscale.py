"""passionsr upscale"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passionsr_cli.cli.console import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    command,
    output,
    print_json,
    printable,
    show_error,
    show_note,
)
from passionsr_cli.cli.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
)

if TYPE_CHECKING:
    from passionsr_cli.api import Done, Failed
    from passionsr_cli.config import UpscaleSettings
    from passionsr_cli.runtime.executor import Executor
    from passionsr_cli.runtime.upscaler import Upscaler


@command
def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Image files, folders, or sample:NAME."),
    ],
    output_path: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file for one input, a folder for several. "
            "Default: NAME_x4.png beside the input.",
        ),
    ] = None,
    model: ModelOption = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="A calibrated model (see passionsr calibrate)."),
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
        int | None,
        typer.Option(metavar="PX", help="Side of a tile of the result, 0: no tiles. Default: 512."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(metavar="PX", help="How far tiles overlap. Default: 64.")
    ] = None,
    color_fix: Annotated[
        str | None,
        typer.Option(metavar="wavelet|adain|none", help="Default: what the model was made for."),
    ] = None,
    scale: Annotated[
        float | None,
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
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upscale photographs four times in each direction."""
    from passionsr_cli.config import UpscaleSettings, settings_from

    options: dict[str, Any] = {
        "model": model,
        "checkpoint": checkpoint,
        "output": output_path,
        "device": device,
        "precision": precision,
        "backend": backend,
        "tile": tile,
        "overlap": overlap,
        "color_fix": color_fix,
        "scale": scale,
        "width": width,
        "height": height,
        "fit": fit,
        "depth": int(depth) if depth in ("8", "16") else depth,
        "strip_metadata": strip_metadata,
        "overwrite": overwrite,
    }
    settings = settings_from(config, UpscaleSettings, options)

    from passionsr_cli import api
    from passionsr_cli.imaging.planning import Refused

    planned = api.plan_upscale(inputs, settings)
    refused = [item for item in planned if isinstance(item, Refused)]
    if not as_json and len(refused) == len(planned):
        # No need to load a model to say so.
        for item in refused:
            show_error(str(item.error))
        raise typer.Exit(EXIT_ERROR)
    upscaler = api.open_upscaler(settings, on_note=show_note)
    outcomes: list[Done | Failed] = []
    try:
        _work(upscaler, planned, settings, outcomes, quiet=as_json)
    except KeyboardInterrupt:
        show_error(f"interrupted: {len(outcomes)} of {len(planned)} images were worked on")
        if as_json:
            print_json(report(upscaler, settings, outcomes))
        raise typer.Exit(EXIT_INTERRUPTED) from None
    failed = [outcome for outcome in outcomes if isinstance(outcome, api.Failed)]
    if as_json:
        print_json(report(upscaler, settings, outcomes))
    else:
        if len(outcomes) > 1:
            output.print(f"{len(outcomes) - len(failed)} upscaled, {len(failed)} failed")
        _note_what_ran(upscaler.executor)
    if failed:
        raise typer.Exit(EXIT_ERROR)


def _note_what_ran(executor: Executor) -> None:
    """Say so where quantized layers did not run on integers."""
    floating = executor.ran().floating
    if floating and executor.backend == "torch":
        show_note("simulated: torch computes the checkpoint's integers in floating point")
    elif floating:
        name, reason = floating[0]
        show_note(
            f"{len(floating)} quantized layers did not run on integers, such as {name}: {reason}"
        )


def _work(
    upscaler: Upscaler,
    planned: list[Any],
    settings: UpscaleSettings,
    outcomes: list[Any],
    quiet: bool,
) -> None:
    """Run all jobs under a progress bar, one line for each outcome."""
    from passionsr_cli.api import Failed, upscale_planned
    from passionsr_cli.cli.progress import image_progress

    with image_progress() as progress:
        task = progress.add_task("upscaling", total=len(planned))

        def on_tile(source: str, share: float) -> None:
            progress.update(task, completed=len(outcomes) + share)

        for outcome in upscale_planned(upscaler, planned, settings, on_tile):
            outcomes.append(outcome)
            progress.update(task, completed=len(outcomes))
            if isinstance(outcome, Failed):
                show_error(outcome.error)
            elif not quiet:
                width, height = outcome.output_size
                output.print(
                    printable(f"{outcome.output}  {width}×{height}  {outcome.seconds:.1f} s"),
                    soft_wrap=True,
                    markup=False,
                )


def report(upscaler: Upscaler, settings: UpscaleSettings, outcomes: list[Any]) -> dict[str, Any]:
    """What `--json` prints."""
    from passionsr_cli.api import Done, Failed

    executor = upscaler.executor
    ran = executor.ran()
    return {
        "images": [
            {
                "input": outcome.source,
                "output": str(outcome.output),
                "input_size": list(outcome.input_size),
                "output_size": list(outcome.output_size),
                "seconds": round(outcome.seconds, 3),
                "tiles": outcome.tiles,
            }
            for outcome in outcomes
            if isinstance(outcome, Done)
        ],
        "failed": [
            {"input": outcome.source, "error": outcome.error}
            for outcome in outcomes
            if isinstance(outcome, Failed)
        ],
        "model": executor.description.name if settings.model is None else settings.model,
        "checkpoint": settings.checkpoint,
        "backend": executor.backend,
        "device": executor.device,
        "precision": executor.precision,
        "integer": ran.on_integers,
        "layers": ran.as_dict(),
        "peak_memory_bytes": executor.peak_memory_bytes(),
    }
