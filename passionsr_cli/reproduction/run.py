"""A table from its definition: row by row, each finished one written at once.

Nothing is done twice: checkpoints are found in the store, unfinished calibrations go on, and
images and scores are in the records of the output folder.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path

from passionsr_cli import methods
from passionsr_cli.checkpoints.catalogue import Checkpoint
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data.pairs import find_dataset
from passionsr_cli.errors import ConfigError, OutputError, PassionSRError
from passionsr_cli.evaluation.candidates import Candidate, checkpoint_candidate, model_candidate
from passionsr_cli.evaluation.published import published_table
from passionsr_cli.evaluation.records import check_results
from passionsr_cli.evaluation.results import RowResult
from passionsr_cli.evaluation.run import Evaluation
from passionsr_cli.layering import settings_from
from passionsr_cli.models import catalogue
from passionsr_cli.models.costs import measure
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.reproduction.calibrations import (
    Calibration,
    calibrate_apart,
    calibration_of,
    check_names,
    settings_of,
)
from passionsr_cli.reproduction.composition import composition, planned_composition
from passionsr_cli.reproduction.definitions import (
    DEVIATION,
    SECONDS,
    SIZE,
    TO_FULL_PRECISION,
    RowDefinition,
    TableDefinition,
    read_table,
)
from passionsr_cli.reproduction.fidelity import psnr_to_full_precision
from passionsr_cli.reproduction.ranking import ranked, ranking_remarks
from passionsr_cli.reproduction.results import (
    Line,
    Table,
    our_line,
    published_line,
    unfinished_line,
)
from passionsr_cli.reproduction.retraining import ensure_model
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.reproduction.sizes import sizes
from passionsr_cli.reproduction.writing import BESIDE_TABLE, TABLE_FILE, write_table
from passionsr_cli.system.paths import name_of
from passionsr_cli.system.text import counted

Calibrate = Callable[[Calibration, Reporter], Checkpoint]


def plan(settings: ReproductionSettings) -> list[tuple[RowDefinition, str, str]]:
    """Each row, the name of its checkpoint of each seed, and whether that is there, unfinished or
    to do, or else why it cannot be made; both empty for rows that need none."""
    definition = read_table(settings.table)
    catalogue.find_present(settings.model)
    rows = definition.chosen_rows(settings.only)
    if not definition.of_sizes:
        check_names(rows, settings)
    planned = []
    for row in rows:
        if definition.of_sizes or row.published_only or row.method is None:
            planned.append((row, "", ""))
            continue
        for seed in definition.asked_seeds:
            name, state = "", ""
            try:
                calibration = calibration_of(row, settings, seed)
                name, state = calibration.name, calibration.state
            except PassionSRError as error:
                state = str(error)
            planned.append((row, name, state))
    return planned


def reproduce(
    settings: ReproductionSettings, reporter: Reporter = SILENT, make: Calibrate = calibrate_apart
) -> Table:
    """Make a table of a paper, with our numbers beside the published ones.

    Calibrates what is missing, each in a process of its own, evaluates, and writes table.md,
    table.csv and table.html beside what an evaluation writes. What was done before is not done
    again. A row that fails says why and the others go on. Raises `PassionSRError` before any work
    for settings that cannot be.
    """
    definition = read_table(settings.table)
    rows = definition.chosen_rows(settings.only)
    if definition.of_sizes:
        return _sizes(settings, definition, rows)
    check_names(rows, settings)
    return _Reproduction(settings, definition, rows, reporter, make).run()


def _sizes(
    settings: ReproductionSettings, definition: TableDefinition, rows: tuple[RowDefinition, ...]
) -> Table:
    description = catalogue.find(settings.model).description
    costs = measure(description)
    named = definition.published
    published = None if named is None else published_table(named)
    columns = definition.shown_columns(None)
    whose, lines = name_of(settings.model), list[Line]()
    for row in rows:
        if not row.published_only:
            chosen = settings_of(row, settings) if row.is_calibrated else None
            if chosen is not None and chosen.budget is not None:
                raise ConfigError(
                    f"row '{row.name}' has the budget {chosen.budget} by its configuration, whose "
                    f"bits are measured, but the columns {', '.join(definition.columns)} are of "
                    "the architecture alone; take it out, or give the table a column such as "
                    f"{TO_FULL_PRECISION}"
                )
            values = sizes(chosen, costs)
            if definition.of_plans and chosen is not None:
                design = methods.build(chosen).design
                values |= planned_composition(description, chosen, design, row.named_bits)
            lines.append(our_line(row, whose, columns, values))
        if published is not None:
            lines += [
                published_line(row, columns, published.printed(line))
                for line in published.rows
                if line.name == row.name
            ]
    about, remarks = f"{whose}, from its architecture alone", tuple[str, ...]()
    if published is not None:
        about = f"{whose} beside {published.source}"
        remarks = (f"Published: {published.note}",)
    folder = _output_folder(settings, whose)
    table = Table(folder, definition.title, about, columns, tuple(lines), remarks, {})
    write_table(table)
    return table


def _output_folder(settings: ReproductionSettings, *names: str) -> Path:
    named = "-".join([Path(settings.table).stem, *names])
    folder = settings.output or Path(named.replace(",", "-"))
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: a file, but --output names a folder")
    check_results(folder, TABLE_FILE, *BESIDE_TABLE)
    return folder


class _Reproduction:
    """State that the rows of one table of quality share."""

    def __init__(
        self,
        settings: ReproductionSettings,
        definition: TableDefinition,
        rows: tuple[RowDefinition, ...],
        reporter: Reporter,
        make: Calibrate,
    ) -> None:
        self.settings, self.rows, self.reporter, self.make = settings, rows, reporter, make
        self.definition = definition
        self.columns = definition.shown_columns(settings.metrics)
        self.whose = name_of(settings.model)
        dataset = find_dataset(settings.dataset, settings.data_root)
        self.folder = _output_folder(settings, self.whose, dataset.name)
        self.evaluated = settings.evaluation(definition, self.folder)
        self.model = model_candidate(settings.model, self.evaluated)
        settings_from(settings.config, CalibrationSettings)
        self.evaluation = Evaluation(self.evaluated, reporter)
        named = definition.published
        self.published = None if named is None else published_table(named)
        self.ours: dict[str, Line] = {}
        self.results: list[RowResult] = []

    def run(self) -> Table:
        self.evaluation.prepare([self.model])
        full = self._evaluate(self.model)
        for number, row in enumerate(self.rows, 1):
            if row.published_only:
                continue
            self.reporter.note(f"row {number} of {len(self.rows)}: {row.name}")
            if not row.is_calibrated:
                self.ours[row.name] = our_line(row, self.whose, self.columns, full)
            else:
                self.ours[row.name] = self._quantized(row)
            self._write()
        self.evaluation.finish(self.results)
        return self._write()

    def _quantized(self, row: RowDefinition) -> Line:
        """Calibrate a row with each seed, unless that was done before, and evaluate it."""
        names, found = list[str](), list[dict[str, float]]()
        try:
            for seed in self.definition.asked_seeds:
                calibration = calibration_of(row, self.settings, seed)
                names.append(calibration.name)
                if calibration.state != "there":
                    ensure_model(row, self.settings, self.reporter)
                    self.make(calibration, self.reporter)
                found.append(self._measured(row, calibration.found()))
        except PassionSRError as error:
            name = names[-1] if names else None
            return unfinished_line(row, self.whose, self.columns, name, str(error))
        values = {key: math.fsum(each[key] for each in found) / len(found) for key in found[0]}
        if len(found) > 1:
            values[DEVIATION] = statistics.stdev(each[TO_FULL_PRECISION] for each in found)
        return our_line(row, self.whose, self.columns, values, names[0])

    def _measured(self, row: RowDefinition, checkpoint: Checkpoint) -> dict[str, float]:
        manifest = checkpoint.manifest
        return {
            **self._evaluate(checkpoint_candidate(checkpoint.name, self.evaluated)),
            **composition(checkpoint, row.named_bits),
            "hours": manifest.seconds / 3600,
            "minutes": manifest.seconds / 60,
            "memory_gb": manifest.peak_memory_bytes / 1e9,
        }

    def _evaluate(self, row: Candidate) -> dict[str, float]:
        """The metrics of a row, its size and time, and its PSNR to full precision unless it is
        that."""
        self.evaluation.make(row)
        found = self.evaluation.score(row)
        self.results.append(found)
        values = dict(found.metrics)
        if found.model_bytes is not None:
            values[SIZE] = found.model_bytes / 1e6
        if found.seconds_per_image is not None:
            values[SECONDS] = found.seconds_per_image
        if row is not self.model:
            names = [pair.name for pair in self.evaluation.pairs]
            own, full = (self.evaluation.folder(one.name) for one in (row, self.model))
            values[TO_FULL_PRECISION] = psnr_to_full_precision(own, full, names)
        return values

    def _write(self) -> Table:
        """The table as far as it is there, and its files."""
        lines = tuple(line for row in self.rows for line in self._lines(row))
        if self.definition.best_below_mb:
            lines = ranked(lines)
        beside = "" if self.published is None else f", beside {self.published.source}"
        table = Table(
            self.folder,
            self.definition.title,
            f"{self.whose} on {counted(len(self.evaluation.pairs), 'image')} of "
            f"{self.evaluation.dataset.name}, protocol {self.definition.protocol}{beside}",
            self.columns,
            lines,
            (*self._remarks(), *ranking_remarks(lines, self.definition)),
            self._missing(),
        )
        write_table(table)
        return table

    def _lines(self, row: RowDefinition) -> list[Line]:
        lines = []
        if not row.published_only:
            to_come = unfinished_line(row, self.whose, self.columns, None)
            lines.append(self.ours.get(row.name, to_come))
        if self.published is None:
            return lines
        dataset = self.evaluation.dataset.name
        lines += [
            published_line(row, self.columns, self.published.printed(line))
            for line in self.published.rows
            if (line.name, line.dataset) == (row.name, dataset)
        ]
        return lines

    def _remarks(self) -> tuple[str, ...]:
        if self.published is None:
            return ()
        objection = self.published.objection(self.evaluation.dataset, self.definition.protocol)
        return (
            "Published are numbers of the authors' models, and time and memory of their GPU.",
            *([f"Published metrics are not comparable: {objection}."] if objection else []),
        )

    def _missing(self) -> dict[str, str]:
        reasons = self.evaluation.metrics.missing
        return {c.title.split(" ")[0]: reasons[c.key] for c in self.columns if c.key in reasons}
