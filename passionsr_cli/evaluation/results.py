"""Results of an evaluation, and their files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from passionsr_cli.errors import MetricError
from passionsr_cli.evaluation.records import write_text
from passionsr_cli.system.text import spreadsheet_cell

JSON_FILE, CSV_FILE = "results.json", "results.csv"
# Papers print four digits behind the point of most metrics, fewer of those on larger scales.
_DIGITS = {"psnr": 3, "niqe": 3, "musiq": 2, "fid": 2}


def shown(metric: str, value: float) -> str:
    """A metric with as many digits as papers print."""
    return f"{value:.{_DIGITS.get(metric, 4)}f}"


@dataclass(frozen=True)
class ImageResult:
    """One image of a row: its scores by metric, and the seconds of computing it, if known."""

    name: str
    scores: dict[str, float]
    seconds: float | None = None


@dataclass(frozen=True)
class RowResult:
    """One row: means over all images, and what could not be computed with the reason.

    `seconds_per_image` is the median of the images' compute time, `model_bytes` the size of the
    stored tensors; both None for finished images. `fingerprint` is that of the model, `realism` the
    setting of its dial, if it has one.
    """

    name: str
    kind: str
    metrics: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)
    seconds_per_image: float | None = None
    model_bytes: int | None = None
    fingerprint: str | None = None
    realism: float | None = None
    images: tuple[ImageResult, ...] = ()


@dataclass(frozen=True)
class PublishedRow:
    """Numbers of a paper, also with the digits it `printed`; `not_comparable` says why, if they
    are not."""

    name: str
    source: str
    metrics: dict[str, float]
    printed: dict[str, str]
    not_comparable: str = ""


@dataclass(frozen=True)
class Results:
    """A whole evaluation. `columns` are (metric, title, lower is better) in the table's order."""

    folder: Path
    dataset: str
    protocol: str
    n: int
    columns: tuple[tuple[str, str, bool], ...]
    rows: tuple[RowResult, ...]
    published: tuple[PublishedRow, ...] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    metric_settings: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """The JSON of `--json`: everything but the single images."""
        keep = ("name", "kind", "realism", "metrics", "missing", "seconds_per_image", "model_bytes")
        found: dict[str, Any] = {"dataset": self.dataset, "protocol": self.protocol, "n": self.n}
        found["rows"] = [{key: getattr(row, key) for key in keep} for row in self.rows]
        if self.published is not None:
            found["published"] = [asdict(row) for row in self.published]
        return found

    @property
    def shown_columns(self) -> tuple[tuple[str, str, bool], ...]:
        """The columns in which any row has a number; `missing` of a row names the others."""
        there = {key for row in self.rows for key in row.metrics}
        there |= {key for row in self.published or () for key in row.metrics}
        return tuple(column for column in self.columns if column[0] in there)

    def cells(self, row: RowResult | PublishedRow) -> list[str]:
        """A row's numbers in the shown columns, with as many digits as papers print."""
        if isinstance(row, PublishedRow):
            return [row.printed.get(key, "") for key, _, _ in self.shown_columns]
        return [
            shown(key, row.metrics[key]) if key in row.metrics else "missing"
            for key, _, _ in self.shown_columns
        ]

    def as_dict(self) -> dict[str, Any]:
        """The content of `results.json`."""
        values = asdict(self)
        del values["folder"]
        return values


def mean_scores(images: Sequence[ImageResult], metrics: Sequence[str]) -> dict[str, float]:
    """The mean of each metric over all images. An image without a number is an error."""
    means = {}
    for metric in metrics:
        for image in images:
            if metric not in image.scores:
                raise MetricError(f"{image.name} has no {metric}; run the command again")
        means[metric] = math.fsum(image.scores[metric] for image in images) / len(images)
    return means


def write_results(results: Results) -> None:
    """Write results.json and results.csv (row, kind, image, metric, value) into the folder.

    Lines whose image is 'all' hold the means, and metrics of the whole set such as FID.
    """
    write_text(results.folder / JSON_FILE, json.dumps(results.as_dict(), indent=1) + "\n")
    lines = StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(("row", "kind", "image", "metric", "value"))
    for row in results.rows:
        about = spreadsheet_cell(row.name), row.kind
        for image in row.images:
            name = spreadsheet_cell(image.name)
            for metric, value in image.scores.items():
                table.writerow((*about, name, metric, repr(value)))
            if image.seconds is not None:
                table.writerow((*about, name, "seconds", repr(image.seconds)))
        for metric, value in row.metrics.items():
            table.writerow((*about, "all", metric, repr(value)))
    write_text(results.folder / CSV_FILE, lines.getvalue())
