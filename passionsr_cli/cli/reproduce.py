"""passionsr reproduce"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passionsr_cli.cli.options import (
    BackendOption,
    ConfigOption,
    DataRootOption,
    DeviceOption,
    JsonOption,
    LimitOption,
    MetricWeightsOption,
    ModelOption,
    given,
    of_data,
    of_machine,
    of_metrics,
)
from passionsr_cli.terminal.console import (
    EXIT_ERROR,
    command,
    output,
    print_json,
    resumable,
    show_error,
    show_note,
)

if TYPE_CHECKING:
    from passionsr_cli.reproduction.results import Table
    from passionsr_cli.reproduction.settings import ReproductionSettings


@command
def reproduce(
    table: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="{values}, or a YAML file."),
    ],
    model: ModelOption = None,
    dataset: Annotated[
        str | None,
        of_data(metavar="NAME|DIR|LR,HR", help="As for evaluate. Default: RealSR."),
    ] = None,
    data_root: DataRootOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Only rows whose name holds this, such as w4a4 or 'qartsr w2a2'; may be repeated.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="What is calibrated on, as for calibrate."),
    ] = None,
    metrics: Annotated[
        str | None,
        of_metrics(metavar="NAME,NAME", help="Of the table's metrics these. Default: all."),
    ] = None,
    metric_weights: MetricWeightsOption = None,
    limit: LimitOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Default: TABLE-MODEL-DATASET, in this folder."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is there and what would be made.")
    ] = False,
    device: DeviceOption = None,
    precision: Annotated[
        str | None,
        of_machine(metavar="auto|fp32|bf16|fp16", help="Of the images made. Default: fp32."),
    ] = None,
    backend: BackendOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a paper's table: our numbers beside the published ones.

    Calibrates what is missing, evaluates it, and writes table.md, table.csv and
    table.html, beside the images and the report of `evaluate`. A run that was
    stopped goes on with the same command: nothing is done twice.

    passionsr-table3 and methods-full-size are about size and work: they need neither
    data nor weights.

    --config is a file for all calibrations, on top of each row's own.

    \b
    passionsr reproduce passionsr-table3
    passionsr reproduce passionsr-table2 --dry-run
    passionsr reproduce qartsr-table3 --only w4a4 --dataset sample
    """
    from passionsr_cli.layering import validate
    from passionsr_cli.reproduction.settings import ReproductionSettings

    options = given(locals(), ReproductionSettings)
    settings = validate(options, ReproductionSettings, "options", options)

    from passionsr_cli.models.catalogue import find
    from passionsr_cli.reproduction.definitions import read_table

    # What is not there is refused before seconds of imports.
    read_table(settings.table).chosen_rows(settings.only)
    find(settings.model)
    if dry_run:
        _show_plan(settings, as_json)
    else:
        _reproduce(settings, as_json)


def _reproduce(settings: ReproductionSettings, as_json: bool) -> None:
    from passionsr_cli import api
    from passionsr_cli.terminal.progress import CurrentBar

    with resumable(), CurrentBar() as bar:
        table = api.reproduce(settings, bar)
    if as_json:
        print_json(table.as_dict())
    else:
        show_table(table)
    for line in table.failed:
        show_error(f"{line.row}: {line.error}")
    show_note(f"in {table.folder}: table.md, table.csv, table.html")
    if table.failed:
        raise typer.Exit(EXIT_ERROR)


def _show_plan(settings: ReproductionSettings, as_json: bool) -> None:
    from passionsr_cli.reproduction.run import plan

    planned = plan(settings)
    if as_json:
        print_json({"rows": [{"row": r.name, "checkpoint": c, "state": s} for r, c, s in planned]})
        return
    from passionsr_cli.terminal.tables import print_table, words

    rows = [(row.name, checkpoint, state or "no calibration") for row, checkpoint, state in planned]
    print_table(words("row", "checkpoint", ""), rows)


def show_table(table: Table) -> None:
    """The table, and below it what to know of its numbers."""
    from passionsr_cli.reproduction.writing import heads
    from passionsr_cli.terminal.tables import numbers, print_table, words

    columns = [*words("bits", "method", ""), *numbers(*(each.title for each in table.columns))]
    lines = list(heads(table))
    states = {"published": "dim", "beaten": "dim", "failed": "red"}
    styles = {number: states.get(line.look, "") for number, (line, _) in enumerate(lines)}
    print_table(columns, [(*head, *line.cells) for line, head in lines], table.title, styles)
    for text in (table.about, *table.remarks):
        output.print(text, soft_wrap=True, markup=False)
    if table.missing:
        output.print(f"missing: {', '.join(table.missing)}; table.md says why", soft_wrap=True)
