"""report.html: one file with the table, plots and pictures, that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from passionsr_cli.data.pairs import Pair
from passionsr_cli.evaluation.pictures import Picture, pictures
from passionsr_cli.evaluation.plots import Point, plot
from passionsr_cli.evaluation.records import write_text
from passionsr_cli.evaluation.results import Results

PAGE = Path(__file__).parent / "report.html"
# As many as the page has classes s0, s1, …
COLOURS = 8


def write_report(
    results: Results, pairs: Sequence[Pair], files: dict[str, dict[str, Path]]
) -> None:
    """Write report.html into the results' folder; `files` are the images by row and name."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    page = Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{results.dataset}: {', '.join(row.name for row in results.rows)}"),
        dataset=escape(results.dataset),
        about=escape(f"{results.n} images, protocol {results.protocol}; {versions}"),
        table=_table(results),
        remarks=_remarks(results),
        legend=_legend(results),
        plots=_plots(results),
        pictures=_data(pictures(results, pairs, files)),
    )
    write_text(results.folder / "report.html", page)


def _table(results: Results) -> str:
    titles = [f"{title} {'↓' if lower else '↑'}" for _, title, lower in results.columns]
    head = "".join(f"<th>{escape(title)}</th>" for title in ["", *titles, "seconds", "MB"])
    lines = []
    for row in results.rows:
        seconds = "" if row.seconds_per_image is None else f"{row.seconds_per_image:.3f}"
        size = "" if row.model_bytes is None else f"{row.model_bytes / 1e6:.1f}"
        cells = [*results.cells(row), seconds, size]
        lines.append(f"<tr><th>{escape(row.name)}</th>{_tds(cells)}</tr>")
    for paper in results.published or ():
        mark = " — not comparable" if paper.not_comparable else ""
        name = f"{escape(paper.name)} <small>published: {escape(paper.source)}{mark}</small>"
        cells = [*results.cells(paper), "", ""]
        hint = escape(paper.not_comparable, quote=True)
        lines.append(f'<tr class="published" title="{hint}"><th>{name}</th>{_tds(cells)}</tr>')
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"


def _tds(cells: Sequence[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)


def _remarks(results: Results) -> str:
    titles = {key: title for key, title, _ in results.columns}
    missing = results.rows[0].missing.items()
    remarks = [f"{titles[metric]} is missing: {reason}" for metric, reason in missing]
    objections = dict.fromkeys(row.not_comparable for row in results.published or ())
    remarks += [f"Published, not comparable: {text}" for text in objections if text]
    return "".join(f"<li>{escape(remark)}</li>" for remark in remarks)


def _legend(results: Results) -> str:
    return "".join(
        f'<li><i class="s{number % COLOURS}"></i>{escape(row.name)}</li>'
        for number, row in enumerate(results.rows)
    )


def _plots(results: Results) -> str:
    """For each metric: each image, and the means against size and against time."""
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
    return "".join(f"<figure>{figure}</figure>" for figure in figures)


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
    return Point(x, y, series % COLOURS, f"{name}: {y:.4f}")


def _data(made: Sequence[Picture]) -> str:
    """For the page's script, inside a script element that is not run."""
    values = [
        {
            "name": picture.name,
            "width": picture.width,
            "height": picture.height,
            "versions": [
                {"name": name, "caption": caption, "url": url}
                for name, caption, url in picture.versions
            ],
        }
        for picture in made
    ]
    return json.dumps(values).replace("<", "\\u003c")
