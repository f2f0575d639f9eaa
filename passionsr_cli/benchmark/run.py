"""A benchmark: every case measured in processes of its own, one after the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from passionsr_cli.benchmark.measurements import Measurement, higher, measurement_of, roofline_share
from passionsr_cli.benchmark.records import (
    Comparison,
    check_comparable,
    compare,
    read_record,
)
from passionsr_cli.benchmark.records import as_dict as comparison_dict
from passionsr_cli.benchmark.settings import BenchmarkSettings
from passionsr_cli.benchmark.timing import Run
from passionsr_cli.benchmark.variants import COMPILED, EAGER, Case, Kind, Variant, plan
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError, PassionSRError, StoreError
from passionsr_cli.models import catalogue
from passionsr_cli.models.costs import LayerCosts, layer_costs
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.children import run_child
from passionsr_cli.system.claims import LOCK_FILE, new_temporary_folder
from passionsr_cli.system.paths import cache_folder

# NNCF's bounds matter for quality alone: random weights have none.
NNCF_IMAGES, NNCF_IMAGES_FOR_RANDOM_WEIGHTS = 8, 1
PREFIX = "bench-"


@dataclass(frozen=True)
class Report:
    """Report of a benchmark. `machine` is empty if it could not be measured; `comparison` is there
    if an earlier one was to be compared with."""

    machine: dict[str, Any]
    rows: list[Measurement]
    comparison: Comparison | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `--json`, which is also a record to compare with."""
        values = {"machine": self.machine, "rows": [asdict(row) for row in self.rows]}
        if self.comparison is not None:
            values["comparison"] = comparison_dict(self.comparison)
        return values


def bench(settings: BenchmarkSettings | None = None, reporter: Reporter = SILENT) -> Report:
    """Measure how fast a model runs here in each form and on each backend, each in its own process.

    A row that fails says why and the others go on.

    Raises `PassionSRError` before any work for settings that cannot be. Up to four times the
    model's size in float32 lies in the cache's folder on the way, and is removed at the end.
    """
    settings = settings or BenchmarkSettings()
    description = _description(settings)
    cases = plan(settings)
    before = None if settings.against is None else read_record(settings.against)
    unit_px = description.unit_px
    size = -(-settings.size // unit_px) * unit_px
    if size != settings.size:
        reporter.note(f"size {settings.size} is no multiple of {unit_px}; measuring {size}")
    if before is not None:
        planned = (
            (case.backend, case.variant.name, case.variant.precision, settings.model, size)
            for case in cases
        )
        check_comparable(planned, before)
    with _temporary_folder() as folder:
        measuring = _Bench(settings, description, size, folder, reporter)
        machine, rows = measuring.measure_machine(), list[Measurement]()
        for case in cases:
            rows.append(measuring.row(case, last=case is _last_of(case.variant, cases)))
            reporter.done(rows[-1])
        again = measuring.measure_machine()
    comparison = None if before is None else compare(rows, before, settings.tolerance)
    if not machine or not again:
        return Report({}, rows, comparison)
    roofline = higher(machine["roofline"], again["roofline"])
    return Report(
        {**machine, "roofline": roofline},
        [replace(row, roofline_share=roofline_share(row, roofline)) for row in rows],
        comparison,
    )


def run_task(name: str, cache: Path, **arguments: Any) -> Any:
    """Call a function of this room in a new process, with this folder as its cache."""
    room = __name__.rpartition(".")[0]
    return run_child(f"{room}.{name}", arguments, environment={"PASSIONSR_CACHE": str(cache)})


def _description(settings: BenchmarkSettings) -> ModelDescription:
    known = catalogue.find(settings.model)
    if known.folder is None and not settings.random_weights:
        raise ModelError(
            f"the weights of '{settings.model}' are not on this machine; speed does not depend on "
            "them: add --random-weights"
        )
    return known.description


def _last_of(variant: Variant, cases: Sequence[Case]) -> Case:
    return [case for case in cases if case.variant.name == variant.name][-1]


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A new folder beside the caches, so that every start is a cold one; gone afterwards.

    What benchmarks that were killed have left goes first: it may be several gigabytes.
    """
    try:
        folder = new_temporary_folder(cache_folder(), PREFIX)
    except OSError as error:
        raise StoreError(
            f"cannot write under {cache_folder()}: {error.strerror or error}; set PASSIONSR_CACHE "
            "to a folder that can be written"
        ) from error
    try:
        with FileLock(folder / LOCK_FILE):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Bench:
    """State that the cases of one benchmark share."""

    def __init__(
        self,
        settings: BenchmarkSettings,
        description: ModelDescription,
        size: int,
        folder: Path,
        reporter: Reporter,
    ) -> None:
        self.settings, self.size, self.folder, self.note = settings, size, folder, reporter.note
        self.model = settings.model
        self.layers = _layers(description, size)
        self.made: dict[str, Path | PassionSRError] = {}

    def measure_machine(self) -> dict[str, Any]:
        """The machine and its roofline, or nothing if that cannot be measured."""
        self.note("measuring what this machine reaches")
        try:
            machine: dict[str, Any] = run_task("hardware:measure_machine", self.folder)
        except PassionSRError as error:
            self.note(f"this machine's roofline is unknown: {error}")
            return {}
        return machine

    def row(self, case: Case, last: bool) -> Measurement:
        """Measure one case; `last` is the last one of its variant, which nobody needs any more."""
        try:
            return self._measure(case)
        except PassionSRError as error:
            return Measurement(
                model=self.settings.model,
                backend=case.backend,
                variant=case.variant.name,
                size=self.size,
                device=case.device,
                precision=case.variant.precision,
                error=str(error),
            )
        finally:
            made = self.made.get(case.variant.name)
            if last and isinstance(made, Path):
                shutil.rmtree(made, ignore_errors=True)

    def _measure(self, case: Case) -> Measurement:
        run = asdict(self._run(case))
        cache = self.folder / "cache"
        try:
            cold = None
            if case.backend == "openvino":
                cold = run_task("timing:first_tile", cache, run=run)["first_tile_seconds"]
            measured = run_task("timing:time_tiles", cache, run=run, repeats=self.settings.repeats)
        finally:
            shutil.rmtree(cache, ignore_errors=True)
        for note in measured["notes"]:
            self.note(f"{case.backend} {case.variant.name}: {note}")
        return measurement_of(case, self.settings.model, self.size, cold, measured, self.layers)

    def _run(self, case: Case) -> Run:
        """The artifact that a case opens, made now if it is not there."""
        variant = case.variant
        model = self._model()
        checkpoint = graphs = None
        if variant.kind is Kind.BITS:
            made_of: dict[str, Any] = {
                "model": model,
                "bits": variant.bits,
                "method": variant.method,
            }
            task = "subjects:make_checkpoint"
            checkpoint = self._make(variant.name, task, **made_of, size=self.size)
        elif variant.kind is Kind.CHECKPOINT:
            checkpoint = variant.name
        elif variant.kind is Kind.NNCF:
            random = self.settings.random_weights
            images = NNCF_IMAGES_FOR_RANDOM_WEIGHTS if random else NNCF_IMAGES
            made_of = {"model": model, "size": self.size, "images": images}
            graphs = self._make(variant.name, "subjects:make_nncf_graphs", **made_of)
        return Run(
            artifact=checkpoint or model,
            graphs=graphs,
            backend=case.backend,
            device=case.device,
            precision=variant.precision,
            nchw=variant.name == EAGER,
            compiled=variant.name == COMPILED,
            size=self.size,
        )

    def _model(self) -> str:
        """The model's name, or the folder of the one with random weights."""
        if not self.settings.random_weights:
            return self.settings.model
        task = "subjects:make_random_model"
        return self._make("random weights", task, model=self.settings.model)

    def _make(self, name: str, task: str, **arguments: Any) -> str:
        """The folder that a task fills, once; if that failed, it is not tried again."""
        if name not in self.made:
            self.note(f"making {name}")
            path = self.folder / name
            try:
                run_task(task, self.folder / "making", folder=str(path), **arguments)
                self.made[name] = path
            except PassionSRError as error:
                self.made[name] = error
        made = self.made[name]
        if isinstance(made, PassionSRError):
            raise made
        return str(made)


def _layers(description: ModelDescription, size: int) -> list[LayerCosts]:
    with torch.device("meta"):
        model = OneStepModel(description)
    return layer_costs(model, size)
