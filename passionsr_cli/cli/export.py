"""passionsr export"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passionsr_cli.cli.options import JsonOption
from passionsr_cli.terminal.console import (
    command,
    output,
    print_json,
    resumable,
    show_note,
    show_result,
)

if TYPE_CHECKING:
    from passionsr_cli.exports.exporting import ExportReport


@command
def export(
    name: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint or a model: name or folder.")
    ],
    format_name: Annotated[
        str, typer.Option("--format", "-f", metavar="NAME", help="{values}.")
    ] = "openvino",
    output_path: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="New folder. Default: NAME-FORMAT."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Fix the result's sides. Default: any size will do."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="tensorrt", help="Insist on what this runtime of ONNX can take."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|fp16",
            help="Types in an ONNX file of all but the integers. Default: fp32, for tensorrt fp16.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint or a model for other runtimes.

    What is written is opened again, run, and compared with the original before it gets its name.
    A run that was stopped goes on with the same command.

    \b
    passionsr export mini-w8a8
    passionsr export mini --format onnx --precision fp16
    passionsr export mini --size 512 --output folder
    """
    from passionsr_cli.checkpoints.artifacts import resolve
    from passionsr_cli.exports.formats import check_format

    # What is not there is refused before seconds of imports.
    check_format(format_name, target, precision, size)
    resolve(name)

    from passionsr_cli import api
    from passionsr_cli.terminal.progress import CurrentBar

    with resumable(), CurrentBar() as bar:
        report = api.export(name, format_name, output_path, size, target, precision, bar)
    if as_json:
        print_json(report.as_dict())
        return
    _show(report)


def _show(report: ExportReport) -> None:
    from rich.table import Table

    fidelity, kernels = report.fidelity, report.kernels
    table = Table(show_header=False, box=None)
    near = "equal" if fidelity.psnr is None else f"{fidelity.psnr:.2f} dB"
    dial = "" if fidelity.realism is None else f" at realism {fidelity.realism:g}"
    table.add_row("to the definition", f"{near} ({report.photograph}{dial})")
    table.add_row("largest difference", f"{fidelity.largest_difference * 255:.3f} of 255")
    total = len(kernels.integer) + len(kernels.folded) + len(kernels.floating)
    packed = report.format == "safetensors"
    if total:
        how = f"{len(kernels.integer)} on integers, {len(kernels.folded)} folded into constants"
        table.add_row("quantized layers", f"{total}, {'packed to their bits' if packed else how}")
    if kernels.floating and not packed:
        layer, reason = kernels.floating[0]
        table.add_row("in floating point", f"{len(kernels.floating)}, such as {layer}: {reason}")
    table.add_row("size", f"{report.bytes / 1e6:.1f} MB")
    show_result(report.folder)
    output.print(table)
    if report.target is not None:
        show_note(f"{report.target} itself was not run; onnxruntime was")
