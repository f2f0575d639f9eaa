"""report.html: one file with the table, plots and pictures, that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from passionsr_cli.data.pairs import Pair
from passionsr_cli.evaluation.pictures import Picture, pictures
from passionsr_cli.evaluation.plots import Point, look, plot
from passionsr_cli.evaluation.records import write_text
from passionsr_cli.evaluation.results import Results, RowResult
from passionsr_cli.pages.rendering import render
from passionsr_cli.system.text import counted

REPORT_FILE = "report.html"
PAGE = Path(__file__).parent / "report.html"


def write_report(
    results: Results, pairs: Sequence[Pair], files: dict[str, dict[str, Path]]
) -> None:
    """Write report.html into the results' folder; `files` are the images by row and name."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    titles = [f"{title} {'↓' if lower else '↑'}" for _, title, lower in results.shown_columns]
    page = render(
        PAGE,
        title=f"{results.dataset}: {', '.join(row.name for row in results.rows)}",
        heading=results.dataset,
        about=f"{counted(results.n, 'image')}, protocol {results.protocol}; {versions}",
        head=["", *titles, "seconds", "MB"],
        rows=[{"name": row.name, "cells": _cells(results, row)} for row in results.rows],
        published=_published(results),
        remarks=_remarks(results),
        look=look,
        plots=_plots(results),
        pictures=[_data(picture) for picture in pictures(results, pairs, files)],
    )
    write_text(results.folder / REPORT_FILE, page)


def _cells(results: Results, row: RowResult) -> list[str]:
    seconds = "" if row.seconds_per_image is None else f"{row.seconds_per_image:.3f}"
    size = "" if row.model_bytes is None else f"{row.model_bytes / 1e6:.1f}"
    return [*results.cells(row), seconds, size]


def _published(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "name": paper.name,
            "source": paper.source,
            "objection": paper.not_comparable,
            "cells": [*results.cells(paper), "", ""],
        }
        for paper in results.published or ()
    ]


def _remarks(results: Results) -> list[str]:
    titles = {key: title for key, title, _ in results.columns}
    missing = results.rows[0].missing.items()
    remarks = [f"{titles[metric]} is missing: {reason}" for metric, reason in missing]
    objections = dict.fromkeys(row.not_comparable for row in results.published or ())
    return remarks + [f"Published, not comparable: {text}" for text in objections if text]


def _plots(results: Results) -> list[str]:
    """SVG; for each metric: each image, and the means against size and against time."""
    figures = []
    for key, title, _ in results.columns:
        if key in results.rows[0].images[0].scores:
            figures.append(
                plot(f"{title} of each image", "image", title, _by_image(results, key), joined=True)
            )
        for x_title, values in (
            ("size in MB", [_scaled(row.model_bytes, 1e-6) for row in results.rows]),
            ("seconds an image", [row.seconds_per_image for row in results.rows]),
        ):
            points = [
                _point(x, row.metrics[key], number, row.name)
                for number, (row, x) in enumerate(zip(results.rows, values, strict=True))
                if x is not None and key in row.metrics
            ]
            if points:
                figures.append(plot(f"{title} against {x_title}", x_title, title, points))
    return figures


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _by_image(results: Results, metric: str) -> list[Point]:
    """Images from the lowest to the highest score in the first row."""
    first = results.rows[0].images
    order = sorted(range(len(first)), key=lambda number: first[number].scores[metric])
    return [
        _point(place, image.scores[metric], series, f"{row.name}, {image.name}")
        for series, row in enumerate(results.rows)
        for place, image in enumerate((row.images[number] for number in order), 1)
    ]


def _point(x: float, y: float, series: int, name: str) -> Point:
    return Point(x, y, series, f"{name}: {y:.4f}")


def _data(picture: Picture) -> dict[str, Any]:
    """For the page's script, inside a script element that is not run."""
    return {
        "name": picture.name,
        "width": picture.width,
        "height": picture.height,
        # The first row's image; those of the data set are before it.
        "right": 2,
        "versions": [
            {"name": name, "caption": caption, "url": url}
            for name, caption, url in picture.versions
        ],
    }
