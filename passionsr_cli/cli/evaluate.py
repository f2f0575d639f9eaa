"""passionsr evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from passionsr_cli.cli.options import (
    COLOR_FIXES,
    BackendOption,
    ConfigOption,
    DataRootOption,
    DeviceOption,
    JsonOption,
    LimitOption,
    MetricWeightsOption,
    PrecisionOption,
    given,
    grouped,
    of_data,
    of_files,
    of_metrics,
)
from passionsr_cli.terminal.console import command, output, print_json, show_note

if TYPE_CHECKING:
    from passionsr_cli.evaluation.results import Results

of_rows = grouped("Rows of the table")


@command
def evaluate(
    model: Annotated[
        list[str] | None,
        of_rows(metavar="NAME|DIR", help="A row at full precision; may be repeated."),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        of_rows(metavar="NAME|DIR", help="A row of a calibrated model; may be repeated."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        of_rows(metavar="DIR", help="A row of images that somebody made; may be repeated."),
    ] = None,
    baseline: Annotated[
        str | None,
        of_rows(
            metavar="bicubic,lanczos,nncf",
            help="nncf is NNCF's own int8 of the model. Default: bicubic, beside models; or none.",
        ),
    ] = None,
    realism: Annotated[
        str | None,
        of_rows(
            metavar="0…1,0…1",
            help="A row for each setting, of models with a dial. Default: the model's own setting.",
        ),
    ] = None,
    color_fix: Annotated[
        str | None, of_rows(metavar=COLOR_FIXES, help="Default: what the model was made for.")
    ] = None,
    published: Annotated[
        bool | None, of_rows("--published", help="Show what papers printed, too.")
    ] = None,
    dataset: Annotated[
        str | None,
        of_data(
            metavar="NAME|DIR|LR,HR",
            help="{values}, a folder that holds pairs, or two folders. Default: sample, eight "
            "photographs that are always here.",
        ),
    ] = None,
    data_root: DataRootOption = None,
    limit: LimitOption = None,
    metrics: Annotated[
        str | None,
        of_metrics(
            metavar="NAME,NAME",
            help="{values}. Default: all of the protocol; lite1 only where LPIPS' weights are not "
            "here.",
        ),
    ] = None,
    metric_weights: MetricWeightsOption = None,
    protocol: Annotated[
        str | None,
        of_metrics(
            metavar="osediff|passionsr",
            help="Whose settings: MANIQA is maniqa-pipal and there is FID, or maniqa and none. "
            "Default: osediff.",
        ),
    ] = None,
    strict: Annotated[
        bool | None, of_metrics("--strict", help="A metric that is missing is an error.")
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    backend: BackendOption = None,
    output: Annotated[
        Path | None,
        of_files(
            "--output",
            "-o",
            metavar="DIR",
            help="Where images, results and the report go. Default: evaluation-DATASET.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare models and checkpoints in numbers and pictures.

    Each of them, and each folder of finished images, is a row of one table. A
    data set's photographs are what it is compared with. results.json, results.csv
    and report.html, with the pictures behind the numbers, are in the output folder.

    A run that was stopped goes on with the same command: nothing is upscaled or
    scored twice. `accelerate launch -m passionsr_cli evaluate` shares the work
    between processes.

    \b
    passionsr evaluate
    passionsr evaluate --checkpoint mini-w6a6-passionsr --metrics psnr,ssim
    passionsr evaluate --dataset LR_FOLDER,HR_FOLDER --images results
    """
    from passionsr_cli.evaluation.settings import EvaluationSettings
    from passionsr_cli.layering import settings_from

    settings = settings_from(config, EvaluationSettings, given(locals(), EvaluationSettings))

    from passionsr_cli.data.pairs import find_dataset
    from passionsr_cli.evaluation.candidates import plan_candidates

    # What is not there is refused before seconds of imports.
    plan_candidates(settings)
    find_dataset(settings.dataset, settings.data_root)

    from passionsr_cli import api
    from passionsr_cli.terminal.progress import CurrentBar

    with CurrentBar() as bar:
        results = api.evaluate(settings, bar)
    if as_json:
        print_json(results.summary())
    else:
        show_results(results)
    show_note(f"in {results.folder}: report.html, results.json, results.csv, images")


def show_results(results: Results) -> None:
    """The table, below it why something is missing or cannot be compared."""
    from passionsr_cli.system.text import counted
    from passionsr_cli.terminal.tables import numbers, print_table, words

    titles = [f"{title} {'↓' if lower else '↑'}" for _, title, lower in results.shown_columns]
    columns = [*words(""), *numbers(*titles), *numbers("seconds", "MB", spare=True)]
    rows, styles = list[tuple[str, ...]](), dict[int, str]()
    for row in results.rows:
        seconds = "" if row.seconds_per_image is None else f"{row.seconds_per_image:.3f}"
        size = "" if row.model_bytes is None else f"{row.model_bytes / 1e6:.1f}"
        rows.append((row.name, *results.cells(row), seconds, size))
    objections = list(dict.fromkeys(row.not_comparable for row in results.published or ()))
    marks = {text: f" *{number}" for number, text in enumerate(filter(None, objections), 1)}
    for paper in results.published or ():
        name = f"{paper.name} ({paper.source}){marks.get(paper.not_comparable, '')}"
        styles[len(rows)] = "dim"
        rows.append((name, *results.cells(paper), "", ""))
    print_table(
        columns,
        rows,
        f"{results.dataset}, {counted(results.n, 'image')}, protocol {results.protocol}",
        styles,
    )
    for text, mark in marks.items():
        output.print(
            f"{mark.strip()} published, not comparable: {text}", soft_wrap=True, markup=False
        )
    named = {key: title for key, title, _ in results.columns}
    if missing := ", ".join(named[metric] for metric in results.rows[0].missing):
        output.print(f"without {missing}: report.html says why", soft_wrap=True)
