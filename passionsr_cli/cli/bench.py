"""passionsr bench"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from passionsr_cli.cli.options import DeviceOption, JsonOption, ModelOption, given
from passionsr_cli.terminal.console import EXIT_ERROR, command, output, print_json, show_error

if TYPE_CHECKING:
    from passionsr_cli.benchmark.measurements import Measurement
    from passionsr_cli.benchmark.run import Report


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
            help="fp32-nchw (eager PyTorch, default layout), fp32, bf16, fp16, any bits as of "
            "calibrate, w4a4-qartsr (with a method's layers), nncf (NNCF's own int8), names of "
            "checkpoints; torch:NAME, openvino:NAME or triton:NAME for one backend alone. "
            "Default: fp32-nchw,fp32,bf16,w8a8,w6a6,w4a4, and nncf if it is installed.",
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
            help="What surrounds integers. Default: fp32, as when upscaling.",
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
    as_json: JsonOption = False,
) -> None:
    """Measure how fast a model runs on this machine, in each form and on each backend.

    A run is one tile through encoder, UNet, x0 and decoder. Every row has
    processes of its own.

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
    """
    from passionsr_cli.benchmark.settings import BenchmarkSettings
    from passionsr_cli.layering import settings_from

    settings = settings_from(None, BenchmarkSettings, given(locals(), BenchmarkSettings))

    from passionsr_cli.benchmark.variants import plan
    from passionsr_cli.models.catalogue import find

    # What cannot be is refused before seconds of imports.
    find(settings.model)
    plan(settings)

    from passionsr_cli import api
    from passionsr_cli.terminal.progress import Lines

    report = api.bench(settings, Lines())
    if as_json:
        print_json(report.as_dict())
    else:
        show_report(report)
    failed = [row for row in report.rows if row.error is not None]
    for row in failed:
        show_error(f"{row.backend} {row.variant}: {row.error}")
    if failed:
        raise typer.Exit(EXIT_ERROR)


def show_report(report: Report) -> None:
    """The table, and below it what the machine reaches."""
    from passionsr_cli.terminal.tables import numbers, print_table, words

    first = report.rows[0]
    done = next((row for row in report.rows if row.gflop is not None), None)
    work = "" if done is None else f", {done.gflop:,.1f} GFLOP"
    columns = words("variant", "backend", "")
    columns += numbers("seconds", "±", "TOPS", "roof", "int", "cold", "cached", "GB")
    rows = [(row.variant, row.backend, row.precision, *_cells(row)) for row in report.rows]
    print_table(columns, rows, f"{first.model}, {first.size}×{first.size}{work}")
    if any(row.simulated for row in report.rows):
        output.print("sim.: simulated, torch computes integers in floating point")
    output.print(_machine_line(report.machine), soft_wrap=True, markup=False)


def _cells(row: Measurement) -> list[str]:
    if row.seconds is None or row.seconds_min is None or row.seconds_max is None:
        return ["failed", *[""] * 7]
    return [
        f"{row.seconds:.3f}",
        _percent((row.seconds_max - row.seconds_min) / 2 / row.seconds),
        f"{row.tops:.3f}",
        _percent(row.roofline_share),
        "sim." if row.simulated else _percent(row.integer_flop_share),
        _seconds(row.startup_cold_seconds),
        _seconds(row.startup_cached_seconds),
        f"{(row.peak_memory_bytes or 0) / 1e9:.2f}",
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _machine_line(machine: dict[str, Any]) -> str:
    """'AMD EPYC, 2 threads; its roof: int8 0.99, bf16 0.52, fp32 0.27 TOPS'."""
    if not machine:
        return "this machine's roofline is unknown"
    roofs = {
        name: max((roof for roof in roofs.values() if roof is not None), default=None)
        for name, roofs in machine["roofline"].items()
    }
    reached = ", ".join(
        f"{name} {'none' if roof is None else f'{roof:.2f}'}" for name, roof in roofs.items()
    )
    return f"{machine['cpu']}, {machine['threads']['openvino']} threads; its roof: {reached} TOPS"
