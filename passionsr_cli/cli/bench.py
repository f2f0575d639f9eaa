"""passionsr bench"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from passionsr_cli.cli.options import DeviceOption, JsonOption, ModelOption, given
from passionsr_cli.terminal.console import EXIT_ERROR, command, print_json, show_error


@command
def bench(
    model: ModelOption = None,
    random_weights: Annotated[
        bool | None,
        typer.Option(
            "--random-weights",
            help="The model's architecture with random weights: speed needs no trained ones.",
        ),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="fp32-nchw (eager PyTorch, default layout), fp32, bf16, bf16-compiled "
            "(by torch), fp16, any bits as of calibrate, w4a4-qartsr (with a method's layers), "
            "nncf (NNCF's own int8), names of checkpoints; torch:NAME, openvino:NAME or "
            "triton:NAME for one backend alone. Default: "
            "fp32-nchw, fp32, bf16, w8a8, w6a6, w4a4, and nncf if it is installed.",
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="torch,openvino,triton", help="Default: all that there are."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of the result. Default: 512.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="auto|fp32|bf16",
            help="What surrounds integers. Default: as when upscaling.",
        ),
    ] = None,
    device: DeviceOption = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Runs of each row. Default: 5 and at least 2 s, 3 if a run takes over 10 s.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An earlier run's --json: compare with it, and exit with 1 if a row is slower.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="How much slower a row may be. Default: 0.1."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how fast a model runs on this machine.

    Each form of it on each backend is a row, which has processes of its own. A run
    is one tile through encoder, UNet, x0 and decoder.

    seconds: the median after warm-up; ± half of what the slowest run took more
    than the fastest.

    TOPS: 10^12 operations a second. An operation is a multiplication or an
    addition of the whole model, those of attention products included.

    roof: TOPS as a share of the most this machine reached, before or after the
    rows, in large matmuls and 3x3 convolutions in the arithmetic of most of the
    row's work. Other programs disturb this: measure on a quiet machine.

    int: the share of the executed operations that ran on integer kernels, as
    OpenVINO's execution graph tells. Torch simulates integers.

    cold, cached: seconds from opening the model, libraries imported, to the
    first tile, less one median tile. Cold loads the weights or the checkpoint
    (for nncf its graphs), converts and compiles; cached starts from what the
    cold start wrote. Torch has no cache.

    GB: the most memory of the process that was timed (for OpenVINO the cached
    one), or of the GPU.

    --against compares the seconds of each row, as multiples of those of one
    reference row of the same run (torch fp32-nchw if it is there), so that
    records of other machines serve as well.
    """
    from passionsr_cli.benchmark.settings import BenchmarkSettings
    from passionsr_cli.layering import settings_from

    settings = settings_from(None, BenchmarkSettings, given(locals(), BenchmarkSettings))

    from passionsr_cli.benchmark.variants import plan
    from passionsr_cli.models.catalogue import find
    from passionsr_cli.system.files import must_exist

    # What cannot be is refused before seconds of imports.
    find(settings.model)
    plan(settings)
    if settings.against is not None:
        must_exist(settings.against)

    from passionsr_cli import api
    from passionsr_cli.terminal.measurements import show_report
    from passionsr_cli.terminal.progress import Lines

    report = api.bench(settings, Lines())
    if as_json:
        print_json(report.as_dict())
    else:
        show_report(report)
    failed = [row for row in report.rows if row.error is not None]
    for row in failed:
        show_error(f"{row.backend} {row.variant}: {row.error}")
    slower = () if report.comparison is None else report.comparison.slower
    for change in slower:
        show_error(f"{change.backend} {change.variant}: slower by {change.change:.0%}")
    if failed or slower:
        raise typer.Exit(EXIT_ERROR)
