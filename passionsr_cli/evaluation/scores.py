"""Scores of finished images against their photographs, without a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import exists
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.data.pairs import Dataset, Pair, finished_images, images_by_name
from passionsr_cli.errors import ConfigError, DataError, MetricError
from passionsr_cli.evaluation.results import shown
from passionsr_cli.imaging.files import size_of
from passionsr_cli.metrics.catalogue import Metric, Protocol, metrics_of, refuse_small
from passionsr_cli.metrics.weights import WeightsFinder
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.devices import choose_device
from passionsr_cli.system.paths import StrPath, optional_path

if TYPE_CHECKING:
    from passionsr_cli.metrics.scoring import Scorer

PROTOCOL: Protocol = "osediff"
# Without names: these, and of a learned distance the first whose weights are on this machine.
PLAIN, LEARNED = ("psnr", "ssim"), ("lpips", "lite1")


@dataclass(frozen=True)
class ImageScores:
    """The metrics of one image, by their keys."""

    image: str
    scores: dict[str, float]

    def __str__(self) -> str:
        values = "  ".join(f"{key} {shown(key, value)}" for key, value in self.scores.items())
        return f"{self.image}  {values}"


def score(
    images: StrPath,
    photographs: StrPath,
    metrics: str | Sequence[str] | None = None,
    metric_weights: StrPath | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> list[ImageScores]:
    """Compare an image with its photograph, or a folder of images with a folder of photographs.

    In folders an image is called like its photograph, or as `upscale` calls its result. Without
    `metrics` there are PSNR and SSIM, as `evaluate` computes them, and LPIPS or Lite1 where their
    weights are on this machine. Raises `PassionSRError` for what is missing or of another size.
    """
    pairs = _pairs(Path(images), Path(photographs))
    metrics = [metrics] if isinstance(metrics, str) else metrics

    from passionsr_cli.evaluation.scoring import Scored, read_both

    finder = WeightsFinder(optional_path(metric_weights), reporter, downloads=metrics is not None)
    scorers = _scorers(metrics, finder, device)
    for _, path in pairs:
        refuse_small([each.metric for each in scorers], str(path), size_of(path))
    reporter.started("scoring", len(pairs))
    found = []
    for number, (pair, path) in enumerate(pairs, 1):
        image, photograph = read_both(Scored(pair, path))
        values = {each.metric.key: each.score(image, photograph) for each in scorers}
        found.append(ImageScores(str(path), values))
        reporter.step("scoring", number)
    return found


def _pairs(images: Path, photographs: Path) -> list[tuple[Pair, Path]]:
    for path in (images, photographs):
        if not exists(path):
            raise DataError(f"{path}: no such file or folder")
    if images.is_dir() != photographs.is_dir():
        raise DataError(f"{images} and {photographs}: give two images, or two folders")
    if not images.is_dir():
        return [(_pair(photographs), images)]
    dataset = Dataset(str(photographs), tuple(map(_pair, images_by_name(photographs).values())))
    found = finished_images(images, dataset)
    if not found:
        raise DataError(f"{images} holds no image of {photographs}")
    return [(pair, found[pair.name]) for pair in dataset.pairs if pair.name in found]


def _pair(photograph: Path) -> Pair:
    stem, path = photograph.stem, str(photograph)
    return Pair(stem, path, path, (stem, f"{stem}_x4"))


def _scorers(names: Sequence[str] | None, finder: WeightsFinder, device: str) -> list[Scorer]:
    from passionsr_cli.metrics.scoring import Scorer

    chosen = choose_device(device)

    def scorer(metric: Metric) -> Scorer:
        if metric.of_sets:
            raise ConfigError(f"{metric.key} is of a whole data set; `passionsr evaluate` has it")
        return Scorer(metric, finder.find(metric), chosen)

    scorers = [scorer(metric) for metric in metrics_of(PROTOCOL, names or PLAIN)]
    for (metric,) in (metrics_of(PROTOCOL, [name]) for name in LEARNED if names is None):
        try:
            return [*scorers, scorer(metric)]
        except MetricError:
            continue
    return scorers
