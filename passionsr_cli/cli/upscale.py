"""passionsr upscale"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from passionsr_cli.cli.options import (
    COMPARING,
    FILES,
    MODEL,
    RESULT,
    ConfigOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    UpscalingDeviceOption,
    given,
)
from passionsr_cli.terminal.console import command


@command
def upscale(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Image files, folders, patterns ('in/**/*.jpg'), sample:NAME, - for a pipe.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file for one input, a folder for several, in which folders are mirrored, - for "
            "a pipe. Default: beside the input.",
            rich_help_panel=FILES,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="What results are called, of {stem}, {ext}, {scale} and {model}, with a suffix "
            "or as .png. Default: '{stem}_{scale}'.",
            rich_help_panel=FILES,
        ),
    ] = None,
    recursive: Annotated[
        bool | None,
        typer.Option(
            "--recursive/--no-recursive",
            help="Folders in folders, too. Default: yes.",
            rich_help_panel=FILES,
        ),
    ] = None,
    model: ModelOption = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR|none",
            help="A calibrated model (see passionsr calibrate). Default: the embedded "
            "model's own on CPUs with integer products; none is full precision.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: UpscalingDeviceOption = None,
    precision: PrecisionOption = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="auto|torch|openvino|onnxruntime|triton",
            help="What computes. Default: openvino on a CPU, torch on a GPU, or for a "
            "checkpoint triton, integers on NVIDIA GPUs, where they win a race at first use.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="auto|PX",
            help="Side of a tile of the result, 0: no tiles. Default: what is fast and fits in "
            "memory.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            metavar="PX", help="How far tiles overlap. Default: 48.", rich_help_panel=MODEL
        ),
    ] = None,
    color_fix: Annotated[
        str | None,
        typer.Option(
            metavar="wavelet|adain|none",
            help="Default: what the model was made for.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    realism: Annotated[
        float | None,
        typer.Option(
            metavar="0…1",
            help="0 is faithful, 1 invents believable detail. Default: the model's own setting.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="FACTOR",
            help="1 to 8, any number. Default: 4, the model's own.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            metavar="PX", help="Of the result, instead of --scale.", rich_help_panel=RESULT
        ),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Likewise; the other side keeps the proportions.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="contain|cover|fill",
            help="With --width and --height: lie inside (default), cover, or stretch.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="same|png|jpg|webp|tiff|avif",
            help="Of results whose name does not say it; same: that of the input. Default: png.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            metavar="1…100",
            help="Of JPEG, WebP and AVIF. Default: 95, of AVIF 90: no loss that is seen.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    depth: Annotated[
        str | None,
        typer.Option(
            metavar="auto|8|16",
            help="Bits per channel. Default: those of the input.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    strip_metadata: Annotated[
        bool | None,
        typer.Option(
            "--strip-metadata",
            help="Leave out ICC profile (then sRGB), EXIF and XMP.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    overwrite: Annotated[
        bool | None,
        typer.Option("--overwrite", help="Replace results that exist.", rich_help_panel=FILES),
    ] = None,
    skip_existing: Annotated[
        bool | None,
        typer.Option(
            "--skip-existing", help="Leave out images that have results.", rich_help_panel=FILES
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="local|ray",
            help="Who shares out the images. Default: local.",
            rich_help_panel=FILES,
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="A page with sliders between input and result, beside the result.",
            rich_help_panel=COMPARING,
        ),
    ] = False,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|0…1",
            help="A model, a checkpoint or a realism to compare with, too; may be repeated.",
            rich_help_panel=COMPARING,
        ),
    ] = None,
    contact_sheet: Annotated[
        bool,
        typer.Option(
            "--contact-sheet",
            help="All versions in one PNG, beside the result.",
            rich_help_panel=COMPARING,
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on with what comes into the folders, until Ctrl-C.",
            rich_help_panel=FILES,
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upscale photographs four times in each direction.

    A run over many images that was stopped goes on with the same command.
    `accelerate launch -m passionsr_cli upscale` shares them between processes.

    \b
    passionsr upscale photo.jpg
    passionsr upscale holiday --output results --format same
    passionsr upscale photo.jpg --realism 0 --compare --beside 1
    """
    from passionsr_cli.config import UpscaleSettings
    from passionsr_cli.layering import settings_from

    settings = settings_from(config, UpscaleSettings, given(locals(), UpscaleSettings))

    from passionsr_cli.cli.work import upscale_all, watch_folders
    from passionsr_cli.terminal import streams
    from passionsr_cli.terminal.comparing import Comparing

    comparing = Comparing(compare, contact_sheet, tuple(beside or ()))
    comparing.check(settings)
    if watch:
        watch_folders(inputs, settings, as_json)
    elif streams.uses_streams(inputs, settings.output):
        with streams.streamed(inputs, settings, as_json) as (files, own_settings):
            upscale_all(files, own_settings, as_json, quiet=own_settings.output != settings.output)
    else:
        upscale_all(inputs, settings, as_json, comparing)
