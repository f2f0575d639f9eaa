"""Scores of a row's images: files are decoded and cheap metrics computed in several threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from passionsr_cli.data.pairs import Pair
from passionsr_cli.errors import DataError, MetricError
from passionsr_cli.evaluation.generate import read_reference, source_sha256
from passionsr_cli.evaluation.records import OF_ALL, RowFolder
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import read_picture, write_picture
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.metrics.catalogue import Metric, metrics_of
from passionsr_cli.metrics.scoring import Scorer
from passionsr_cli.metrics.weights import WeightsFinder
from passionsr_cli.progress import Reporter
from passionsr_cli.system.devices import choose_device
from passionsr_cli.system.files import sha256_of
from passionsr_cli.system.processes import Processes

# How many threads torch takes is the whole process's.
_in_threads = threading.Lock()


@dataclass(frozen=True)
class Metrics:
    """The columns of the table: the metrics that can be computed here, and of the others the
    reason why not."""

    columns: tuple[Metric, ...]
    scorers: tuple[Scorer, ...]
    missing: dict[str, str]

    @property
    def of_images(self) -> list[Scorer]:
        """Those with a number for each image."""
        return [scorer for scorer in self.scorers if not scorer.metric.of_sets]

    @property
    def of_sets(self) -> list[Scorer]:
        """Those with one number for all images."""
        return [scorer for scorer in self.scorers if scorer.metric.of_sets]


def open_metrics(settings: EvaluationSettings, processes: Processes, reporter: Reporter) -> Metrics:
    """All metrics of the settings. Raises `MetricError` if none can be computed, or not all and
    the settings are strict."""
    if not processes.is_first:
        # Only one downloads.
        processes.wait()
    finder = WeightsFinder(settings.metric_weights, reporter)
    device = choose_device(settings.device)
    metrics = _opened(settings, finder, device, reporter)
    if processes.is_first:
        processes.wait()
    if metrics.missing and (settings.strict or not metrics.scorers):
        raise MetricError(
            f"{', '.join(metrics.missing)} cannot be computed: "
            f"{next(iter(metrics.missing.values()))}"
        )
    return metrics


def _opened(
    settings: EvaluationSettings, finder: WeightsFinder, device: str, reporter: Reporter
) -> Metrics:
    columns, scorers, missing = list[Metric](), list[Scorer](), dict[str, str]()

    def add(metric: Metric) -> str:
        """Why it cannot be computed; empty if it can."""
        try:
            scorers.append(Scorer(metric, finder.find(metric), device))
        except MetricError as error:
            return str(error)
        columns.append(metric)
        return ""

    for metric in metrics_of(settings.protocol, settings.metrics):
        if not (reason := add(metric)):
            continue
        columns.append(metric)
        # Whoever names metrics gets those and no others.
        if (other := metric.stand_in) is not None and settings.metrics is None:
            lack = add(other)
            reason += f"; {other.title} " + (f"could stand in, but {lack}" if lack else "stands in")
        missing[metric.key] = reason
    if missing and scorers:
        titles = ", ".join(metric.title for metric in columns if metric.key in missing)
        reporter.note(
            f"left out, for want of weights: {titles}; report.html says where each is had, and "
            "--metric-weights takes their folder"
        )
    return Metrics(tuple(columns), tuple(scorers), missing)


@dataclass(frozen=True)
class Scored:
    """A pair, its image, and what both files are."""

    pair: Pair
    image: Path


def score_images(
    work: Sequence[Scored],
    folder: RowFolder,
    metrics: Metrics,
    task: str,
    reporter: Reporter,
) -> None:
    """Write the scores that are not there yet into the records of a row.

    Raises `MetricError`, `ImageError` or `DataError` with the name of the file.
    """
    cheap = [scorer for scorer in metrics.of_images if scorer.metric.cheap]
    networks = [scorer for scorer in metrics.of_images if not scorer.metric.cheap]
    reporter.started(task, len(work))
    with _one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        done = pool.map(partial(_score, folder=folder, scorers=cheap), work)
        for number, _ in enumerate(done, 1):
            if not networks:
                reporter.step(task, number)
    for number, scored in enumerate(work if networks else (), 1):
        _score(scored, folder, networks)
        reporter.step(task, number)


def score_set(work: Sequence[Scored], folder: RowFolder, metrics: Metrics) -> None:
    """Write the metrics of the whole set, such as FID, into a record of their own."""
    if not metrics.of_sets:
        return
    images = [sha256_of(scored.image) for scored in work]
    references = [source_sha256(scored.pair.hr) for scored in work]
    record = folder.read(OF_ALL)
    known = record.scores_of(_digest(images), _digest(references))
    for scorer in metrics.of_sets:
        if scorer.fingerprint not in known:
            files = [_as_file(scored.pair.hr, folder) for scored in work]
            known[scorer.fingerprint] = scorer.distance([one.image for one in work], files)
    folder.write(OF_ALL, record)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _as_file(source: str, folder: RowFolder) -> Path:
    """A photograph as a file, which a sample is not by itself."""
    if not samples.is_sample(source):
        return Path(source)
    path = folder.records / f"{source.removeprefix(samples.PREFIX)}.png"
    write_picture(path, Picture(read_reference(source)))
    return path


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Torch computes each image in one thread: several images at once use the cores better, and
    the sums do not depend on how many there are. Gives the number of threads it has otherwise."""
    with _in_threads:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield before
        finally:
            torch.set_num_threads(before)


def _score(scored: Scored, folder: RowFolder, scorers: Sequence[Scorer]) -> None:
    pair = scored.pair
    record = folder.read(pair.name)
    known = record.scores_of(sha256_of(scored.image), source_sha256(pair.hr))
    wanted = [scorer for scorer in scorers if scorer.fingerprint not in known]
    if not wanted:
        return
    image, reference = read_both(scored)
    for scorer in wanted:
        try:
            known[scorer.fingerprint] = scorer.score(image, reference)
        except MetricError as error:
            raise MetricError(f"{scored.image}: {error}") from error
    folder.write(pair.name, record)


def read_both(scored: Scored) -> tuple[Tensor, Tensor]:
    """An image and its photograph, (3, H, W) each; refused if their sizes differ."""
    image = torch.from_numpy(read_picture(scored.image).rgb)
    reference = torch.from_numpy(read_reference(scored.pair.hr))
    if image.shape != reference.shape:
        (height, width), (high, wide) = image.shape[1:], reference.shape[1:]
        raise DataError(
            f"{scored.image} is {width}×{height} px, its photograph {scored.pair.hr} {wide}×{high}"
        )
    return image, reference
