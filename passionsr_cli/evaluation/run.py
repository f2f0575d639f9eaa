"""One evaluation: pairs, rows, images, scores, means, files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from passionsr_cli import __version__
from passionsr_cli.errors import DataError, OutputError
from passionsr_cli.evaluation.datasets import (
    Dataset,
    Pair,
    find_dataset,
    finished_images,
    missing_images,
)
from passionsr_cli.evaluation.listener import Listener
from passionsr_cli.evaluation.making import FACTOR, make_images, size_of
from passionsr_cli.evaluation.published import published_rows
from passionsr_cli.evaluation.records import OF_ALL, RowFolder
from passionsr_cli.evaluation.report import write_report
from passionsr_cli.evaluation.results import (
    ImageResult,
    Results,
    RowResult,
    mean_scores,
    write_results,
)
from passionsr_cli.evaluation.rows import Row, plan_rows
from passionsr_cli.evaluation.scoring import (
    Metrics,
    Scored,
    open_metrics,
    score_images,
    score_set,
)
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.imaging import samples
from passionsr_cli.metrics.catalogue import metrics_of
from passionsr_cli.runtime.backends import nncf_folder
from passionsr_cli.runtime.processes import Processes


def evaluate(settings: EvaluationSettings, listener: Listener) -> Results:
    """Evaluate all rows. What is missing or does not fit together is said before any work."""
    processes = Processes()
    dataset = find_dataset(settings.dataset, settings.data_root)
    pairs = dataset.pairs[: settings.limit]
    rows = plan_rows(settings)
    output = settings.output or Path(f"evaluation-{dataset.name.replace(',', '-')}")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: a file, but --output names a folder")
    files = {row.name: _check_sizes(row, dataset, pairs) for row in rows}
    metrics = open_metrics(settings, processes, listener)
    folders = {row.name: RowFolder(output, row.name) for row in rows}
    for row in rows:
        if row.folder is None:
            make_images(row, pairs, folders[row.name], settings, processes, listener)
            files[row.name] = {pair.name: folders[row.name].image(pair.name) for pair in pairs}
    for row in rows:
        work = [Scored(pair, files[row.name][pair.name]) for pair in pairs]
        share = processes.share(work)
        listener.start("scoring", row.name, len(share))
        score_images(share, folders[row.name], metrics, listener.advance)
        processes.wait()
        if processes.is_first:
            score_set(work, folders[row.name], metrics)
    processes.wait()
    found = tuple(_row(row, pairs, folders[row.name], metrics) for row in rows)
    results = _results(settings, output, dataset, metrics, found)
    if processes.is_first:
        write_results(results)
        write_report(results, pairs, files)
    processes.wait()
    return results


def _results(
    settings: EvaluationSettings,
    output: Path,
    dataset: Dataset,
    metrics: Metrics,
    rows: tuple[RowResult, ...],
) -> Results:
    wanted = metrics_of(settings.protocol, settings.metrics)
    return Results(
        folder=output,
        dataset=dataset.name,
        protocol=settings.protocol,
        n=len(rows[0].images),
        columns=tuple((metric.key, metric.title, metric.lower_is_better) for metric in wanted),
        rows=rows,
        published=published_rows(dataset, settings.protocol) if settings.published else None,
        versions={"passionsr": __version__, **{name: version(name) for name in ("pyiqa", "torch")}},
        settings=settings.model_dump(mode="json"),
        metric_settings={
            scorer.metric.key: {
                "pyiqa": scorer.metric.pyiqa_name,
                "options": scorer.metric.options,
                "weights": scorer.weights,
            }
            for scorer in metrics.scorers
        },
    )


def _check_sizes(row: Row, dataset: Dataset, pairs: Sequence[Pair]) -> dict[str, Path]:
    """The finished images of a row, if it has them. Sizes are compared by the files' headers."""
    if row.folder is None:
        for pair in pairs:
            if not samples.is_sample(pair.lr):
                (width, height), expected = size_of(pair.lr), size_of(pair.hr)
                _same_size(pair.lr, (width * FACTOR, height * FACTOR), pair.hr, expected)
        return {}
    found = finished_images(row.folder, dataset)
    for lack in missing_images(found, row.folder, pairs):
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


def _row(row: Row, pairs: Sequence[Pair], folder: RowFolder, metrics: Metrics) -> RowResult:
    images = []
    for pair in pairs:
        record = folder.read(pair.name)
        scores = {
            scorer.metric.key: record.scores[scorer.fingerprint]
            for scorer in metrics.of_images
            if scorer.fingerprint in record.scores
        }
        # Who made finished images knows how long that took; a record may be of another row.
        images.append(ImageResult(pair.name, scores, None if row.folder else record.seconds))
    means = mean_scores(images, [scorer.metric.key for scorer in metrics.of_images])
    of_all = folder.read(OF_ALL).scores
    means |= {scorer.metric.key: of_all[scorer.fingerprint] for scorer in metrics.of_sets}
    seconds = [image.seconds for image in images if image.seconds is not None]
    return RowResult(
        name=row.name,
        kind=row.kind,
        metrics=means,
        missing=metrics.missing,
        seconds_per_image=statistics.median(seconds) if seconds else None,
        model_bytes=_model_bytes(row),
        fingerprint=None if row.source is None else row.source.fingerprint,
        images=tuple(images),
    )


def _model_bytes(row: Row) -> int | None:
    if row.of_nncf and row.source is not None:
        graphs = nncf_folder(row.source).glob("*.bin")
        # None where the cache cannot be written: the graphs are gone with the process.
        return sum(path.stat().st_size for path in graphs) or None
    if row.source is None or row.source.entry is None:
        return None
    return int(row.source.entry.manifest["tensors"]["bytes"])
