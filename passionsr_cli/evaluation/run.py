"""One evaluation: pairs, candidates, images, scores, means, files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from passionsr_cli import __version__
from passionsr_cli.data.pairs import Dataset, Pair, find_dataset, finished_images, missing_images
from passionsr_cli.errors import DataError, OutputError
from passionsr_cli.evaluation.candidates import Candidate, plan_candidates
from passionsr_cli.evaluation.generate import FACTOR, make_images
from passionsr_cli.evaluation.published import published_rows
from passionsr_cli.evaluation.records import OF_ALL, RowFolder, check_results
from passionsr_cli.evaluation.report import REPORT_FILE, write_report
from passionsr_cli.evaluation.results import (
    CSV_FILE,
    JSON_FILE,
    ImageResult,
    Results,
    RowResult,
    mean_scores,
    write_results,
)
from passionsr_cli.evaluation.scoring import Metrics, Scored, open_metrics, score_images, score_set
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import size_of
from passionsr_cli.inference.open import nncf_folder
from passionsr_cli.metrics.catalogue import refuse_small
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.processes import Processes


def evaluate(settings: EvaluationSettings | None = None, reporter: Reporter = SILENT) -> Results:
    """Compare models, checkpoints and finished images on a data set, as rows of one table.

    Writes images, results.json, results.csv and report.html into `settings.output`. What was
    upscaled or scored there before, of the same files with the same settings, is not done again.
    What is missing or does not fit together is said before any work.
    """
    settings = settings or EvaluationSettings()
    evaluation = Evaluation(settings, reporter)
    candidates = plan_candidates(settings)
    evaluation.prepare(candidates)
    for candidate in candidates:
        evaluation.make(candidate)
    return evaluation.finish([evaluation.score(candidate) for candidate in candidates])


class Evaluation:
    """A data set, metrics and a folder, ready for one candidate after the other, then for all."""

    def __init__(self, settings: EvaluationSettings, reporter: Reporter) -> None:
        self.settings, self.reporter = settings, reporter
        self.processes = Processes()
        self.dataset = find_dataset(settings.dataset, settings.data_root)
        self.pairs = self.dataset.pairs[: settings.limit]
        self.output = settings.output or Path(f"evaluation-{self.dataset.name.replace(',', '-')}")
        self.files: dict[str, dict[str, Path]] = {}

    def prepare(self, candidates: Sequence[Candidate]) -> None:
        """Check what candidates need before any work, and open the metrics."""
        if self.output.exists() and not self.output.is_dir():
            raise OutputError(f"{self.output}: a file, but --output names a folder")
        check_results(self.output, REPORT_FILE, JSON_FILE, CSV_FILE)
        for candidate in candidates:
            self.files[candidate.name] = _check_sizes(candidate, self.dataset, self.pairs)
        self.metrics = open_metrics(self.settings, self.processes, self.reporter)
        # Images are as large as their photographs.
        measured = [scorer.metric for scorer in self.metrics.of_images]
        for pair in self.pairs:
            if not samples.is_sample(pair.hr):
                refuse_small(measured, pair.hr, size_of(pair.hr))

    def folder(self, name: str) -> RowFolder:
        """The images and records of the candidate of this name."""
        return RowFolder(self.output, name)

    def make(self, candidate: Candidate) -> None:
        """Make the images of a candidate that are not there yet; finished ones are."""
        if candidate.folder is not None:
            return
        folder = self.folder(candidate.name)
        make_images(candidate, self.pairs, folder, self.settings, self.processes, self.reporter)
        self.files[candidate.name] = {pair.name: folder.image(pair.name) for pair in self.pairs}

    def score(self, candidate: Candidate) -> RowResult:
        """Score the images of a candidate as far as they are not."""
        folder, files = self.folder(candidate.name), self.files[candidate.name]
        work = [Scored(pair, files[pair.name]) for pair in self.pairs]
        share = self.processes.share(work)
        score_images(share, folder, self.metrics, f"scoring {candidate.name}", self.reporter)
        self.processes.wait()
        if self.processes.is_first:
            score_set(work, folder, self.metrics)
        self.processes.wait()
        return _row(candidate, self.pairs, folder, self.metrics)

    def finish(self, rows: Sequence[RowResult]) -> Results:
        """All rows as one table, and its files."""
        results = self._results(tuple(rows))
        if self.processes.is_first:
            # The page first, by which the others are known to be ours.
            write_report(results, self.pairs, self.files)
            write_results(results)
        self.processes.wait()
        return results

    def _results(self, rows: tuple[RowResult, ...]) -> Results:
        settings = self.settings
        published = published_rows(self.dataset, settings.protocol) if settings.published else None
        packages = {name: version(name) for name in ("pyiqa", "torch")}
        return Results(
            folder=self.output,
            dataset=self.dataset.name,
            protocol=settings.protocol,
            n=len(rows[0].images),
            columns=tuple(
                (metric.key, metric.title, metric.lower_is_better)
                for metric in self.metrics.columns
            ),
            rows=rows,
            published=published,
            versions={"passionsr": __version__, **packages},
            settings=settings.model_dump(mode="json"),
            metric_settings={
                scorer.metric.key: {
                    "pyiqa": scorer.metric.pyiqa_name,
                    "definition": scorer.metric.definition,
                    "options": scorer.metric.options,
                    "weights": scorer.weights,
                }
                for scorer in self.metrics.scorers
            },
        )


def _check_sizes(candidate: Candidate, dataset: Dataset, pairs: Sequence[Pair]) -> dict[str, Path]:
    """The finished images of a candidate, if it has them; sizes are those of the files' headers."""
    if candidate.folder is None:
        for pair in pairs:
            if not samples.is_sample(pair.lr):
                (width, height), expected = size_of(pair.lr), size_of(pair.hr)
                _same_size(pair.lr, (width * FACTOR, height * FACTOR), pair.hr, expected)
        return {}
    found = finished_images(candidate.folder, dataset)
    for lack in missing_images(found, candidate.folder, pairs):
        raise DataError(lack)
    for pair in pairs:
        if not samples.is_sample(pair.hr):
            image = found[pair.name]
            _same_size(str(image), size_of(image), pair.hr, size_of(pair.hr))
    return found


def _same_size(name: str, size: tuple[int, int], hr: str, expected: tuple[int, int]) -> None:
    if size != expected:
        raise DataError(
            f"{name} gives {size[0]}×{size[1]} px, its photograph {hr} has "
            f"{expected[0]}×{expected[1]}"
        )


def _row(
    candidate: Candidate, pairs: Sequence[Pair], folder: RowFolder, metrics: Metrics
) -> RowResult:
    images = []
    for pair in pairs:
        record = folder.read(pair.name)
        scores = {
            scorer.metric.key: record.scores[scorer.fingerprint]
            for scorer in metrics.of_images
            if scorer.fingerprint in record.scores
        }
        # Who made finished images knows how long that took; a record may be of another candidate.
        images.append(ImageResult(pair.name, scores, None if candidate.folder else record.seconds))
    means = mean_scores(images, [scorer.metric.key for scorer in metrics.of_images])
    of_all = folder.read(OF_ALL).scores
    means |= {scorer.metric.key: of_all[scorer.fingerprint] for scorer in metrics.of_sets}
    seconds = [image.seconds for image in images if image.seconds is not None]
    return RowResult(
        name=candidate.name,
        kind=candidate.kind,
        metrics=means,
        missing=metrics.missing,
        seconds_per_image=statistics.median(seconds) if seconds else None,
        model_bytes=_model_bytes(candidate),
        fingerprint=None if candidate.artifact is None else candidate.artifact.fingerprint,
        realism=candidate.realism,
        images=tuple(images),
    )


def _model_bytes(candidate: Candidate) -> int | None:
    if candidate.of_nncf and candidate.artifact is not None:
        graphs = nncf_folder(candidate.artifact).glob("*.bin")
        # None where the cache cannot be written: the graphs are gone with the process.
        return sum(path.stat().st_size for path in graphs) or None
    if candidate.artifact is None:
        return None
    return candidate.artifact.entry.tensors_file.bytes
