"""passionsr upscale"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from passionsr_cli.cli.options import (
    BACKEND_CHOICES,
    COLOR_FIXES,
    ConfigOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    UpscalingDeviceOption,
    given,
    grouped,
    of_files,
    of_machine,
    of_model,
)
from passionsr_cli.terminal.console import command
from passionsr_cli.terminal.grammar import format_name

of_result, of_looks = grouped("The result"), grouped("To look at")


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
        of_files(
            "--output",
            "-o",
            metavar="PATH",
            help="A file for one input, a folder for several, in which folders are mirrored, - for "
            "a pipe. Default: beside the input.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        of_files(
            metavar="TEMPLATE",
            help="What results are called, of {stem}, {ext}, {scale} and {model}, with a suffix "
            "or as .png. Default: '{stem}_{scale}'.",
        ),
    ] = None,
    overwrite: Annotated[
        bool | None, of_files("--overwrite", help="Replace results that exist.")
    ] = None,
    skip_existing: Annotated[
        bool | None, of_files("--skip-existing", help="Leave out images that have results.")
    ] = None,
    recursive: Annotated[
        bool | None,
        of_files("--recursive/--no-recursive", help="Folders in folders, too. Default: yes."),
    ] = None,
    watch: Annotated[
        bool,
        of_files("--watch", help="Go on with what comes into the folders, until Ctrl-C."),
    ] = False,
    realism: Annotated[
        float | None,
        of_result(
            metavar="0…1",
            help="0 is faithful, 1 invents believable detail. Default: the model's own setting.",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        of_result(metavar="FACTOR", help="1 to 8, any number. Default: 4, the model's own."),
    ] = None,
    width: Annotated[
        int | None, of_result(metavar="PX", help="Of the result, instead of --scale.")
    ] = None,
    height: Annotated[
        int | None,
        of_result(metavar="PX", help="Likewise; the other side keeps the proportions."),
    ] = None,
    fit: Annotated[
        str | None,
        of_result(
            metavar="contain|cover|fill",
            help="With --width and --height: lie inside (default), cover, or stretch.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        of_result(
            metavar="same|png|jpg|webp|tiff|avif",
            help="Of results whose name does not say it; same: that of the input. Default: png.",
            callback=format_name,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        of_result(
            metavar="1…100",
            help="Of JPEG, WebP and AVIF. Default: 95, of AVIF 90: no loss that is seen.",
        ),
    ] = None,
    depth: Annotated[
        str | None,
        of_result(
            metavar="auto|8|16", help="Bits of each colour channel. Default: those of the input."
        ),
    ] = None,
    color_fix: Annotated[
        str | None,
        of_result(
            metavar=COLOR_FIXES,
            help="How colours are matched to the input's. Default: as the model was made for.",
        ),
    ] = None,
    strip_metadata: Annotated[
        bool | None,
        of_result("--strip-metadata", help="Leave out ICC profile (then sRGB), EXIF and XMP."),
    ] = None,
    compare: Annotated[
        bool,
        of_looks(
            "--compare", help="A page with sliders between input and result, beside the result."
        ),
    ] = False,
    beside: Annotated[
        list[str] | None,
        of_looks(
            metavar="NAME|0…1",
            help="A model, a checkpoint or a realism to compare with, too; may be repeated.",
        ),
    ] = None,
    contact_sheet: Annotated[
        bool, of_looks("--contact-sheet", help="All versions in one PNG, beside the result.")
    ] = False,
    model: ModelOption = None,
    checkpoint: Annotated[
        str | None,
        of_model(
            metavar="NAME|DIR|none",
            help="A calibrated model, see `passionsr checkpoints`. Default: the embedded "
            "model's own on CPUs with integer products; none is full precision.",
        ),
    ] = None,
    device: UpscalingDeviceOption = None,
    precision: PrecisionOption = None,
    backend: Annotated[
        str | None,
        of_machine(
            metavar=BACKEND_CHOICES,
            help="What computes. Default: openvino on a CPU, torch on a GPU, or for a "
            "checkpoint triton, integers on NVIDIA GPUs, where they win a race at first use.",
        ),
    ] = None,
    tile: Annotated[
        str | None,
        of_machine(
            metavar="auto|PX",
            help="Side of a tile of the result in pixels, 0: no tiles. Default: what is fast and "
            "fits in memory.",
        ),
    ] = None,
    overlap: Annotated[
        int | None, of_machine(metavar="PX", help="How far tiles overlap. Default: 48.")
    ] = None,
    engine: Annotated[
        str | None,
        of_machine(metavar="local|ray", help="Who shares out the images. Default: local."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upscale photographs four times in each direction.

    A run over many images, or large ones of a slow model, that was stopped goes on with the same
    command. `accelerate launch -m passionsr_cli upscale` shares images between processes.

    \b
    passionsr upscale photo.jpg
    passionsr upscale holiday --output results --format same
    passionsr upscale photo.jpg --realism 0 --compare --beside 1
    """
    from passionsr_cli.config import UpscaleSettings
    from passionsr_cli.layering import settings_from

    settings = settings_from(config, UpscaleSettings, given(locals(), UpscaleSettings))

    from passionsr_cli.terminal import streams
    from passionsr_cli.terminal.comparing import Comparing
    from passionsr_cli.terminal.work import upscale_all, watch_folders

    comparing = Comparing(compare, contact_sheet, tuple(beside or ()))
    comparing.check(inputs, settings, watch)
    if watch:
        watch_folders(inputs, settings, as_json)
    elif streams.uses_streams(inputs, settings.output):
        with streams.streamed(inputs, settings, as_json) as (files, own_settings):
            upscale_all(files, own_settings, as_json, quiet=own_settings.output != settings.output)
    else:
        upscale_all(inputs, settings, as_json, comparing)
