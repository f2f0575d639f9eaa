"""table.md, table.csv and table.html: one table, three times; and its plots as files."""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path

from passionsr_cli.evaluation.plots import HEIGHT, WIDTH, Point, look, plot
from passionsr_cli.evaluation.records import write_text
from passionsr_cli.evaluation.report import REPORT_FILE
from passionsr_cli.pages.rendering import render
from passionsr_cli.reproduction.definitions import DEVIATION, SECONDS, SIZE, TO_FULL_PRECISION
from passionsr_cli.reproduction.results import Line, Table
from passionsr_cli.system.text import printable, spreadsheet_cell

PAGE = Path(__file__).parent / "table.html"
PLOT = Path(__file__).parent / "plot.svg"
TABLE_FILE = "table.html"
# What would begin something in Markdown rather than be seen.
MARKS = re.compile(r"[\\|*_`~<\[]|&(?=#?\w+;)")
BESIDE_TABLE = ("table.md", "table.csv", f"{SIZE}.svg", f"{SECONDS}.svg")


def write_table(table: Table) -> None:
    """Write all into its folder, each whole or not at all; plots are in `table.html` and, each by
    itself, in `mb.svg` and `seconds.svg`. Raises `OutputError`."""
    folder = table.folder
    report = REPORT_FILE if (folder / REPORT_FILE).exists() else None
    # The page first, by which the others are known to be ours.
    write_text(folder / TABLE_FILE, page(table, report))
    write_text(folder / "table.md", markdown(table))
    write_text(folder / "table.csv", comma_separated(table))
    for key, figure in _plots(table).items():
        inside = figure.partition(">")[2].removesuffix("</svg>")
        drawing = render(
            PLOT, plot=inside, labels=_plotted(table), look=look, width=WIDTH, height=HEIGHT
        )
        write_text(folder / f"{key}.svg", drawing)


def headings(table: Table) -> list[str]:
    """The head of the table, without which its cells mean nothing."""
    return ["bits", "method", "", *(column.title for column in table.columns)]


def heads(table: Table) -> list[tuple[Line, list[str]]]:
    """Each line with its first cells; what stands in the line above is not said again."""
    found = []
    above = ("", "")
    for line in table.lines:
        bits = line.bits if line.bits != above[0] else ""
        label = line.label if (line.bits, line.label) != above else ""
        above = (line.bits, line.label)
        found.append((line, [bits, label, line.whose]))
    return found


def _remarks(table: Table) -> list[str]:
    """Remarks on the numbers, and why some are not there."""
    missing = (f"{title} is missing: {reason}" for title, reason in table.missing.items())
    failed = (f"{line.row} failed: {line.error}" for line in table.failed)
    return [*table.remarks, *missing, *failed]


def markdown(table: Table) -> str:
    """The table as GitHub's Markdown."""
    heading = list(map(_plain, headings(table)))
    rows = [heading, ["---", "---", "---", *("---:" for _ in table.columns)]]
    for line, head in heads(table):
        cells = list(map(_plain, (*head, *line.cells)))
        rows.append([f"*{cell}*" if cell and line.beaten else cell for cell in cells])
    lines = [f"# {_plain(table.title)}", "", f"{_plain(table.about)}.", ""]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", *(f"- {_plain(remark)}" for remark in _remarks(table))]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text in one line that Markdown shows as it is."""
    return MARKS.sub(r"\\\g<0>", " ".join(printable(text).split()))


def comma_separated(table: Table) -> str:
    """One line for each of the table's, with numbers as they are rather than as they look."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [column.key for column in table.columns]
    if any(DEVIATION in line.values for line in table.lines):
        keys.append(DEVIATION)
    head = ["bits", "method", "whose", "state", "checkpoint"]
    writer.writerow([*head, *keys, "beaten", "error"])
    for line in table.lines:
        values = [repr(line.values[key]) if key in line.values else "" for key in keys]
        about = [line.bits, line.label, line.whose, line.state, line.checkpoint or ""]
        found = ["yes" if line.beaten else "", spreadsheet_cell(line.error)]
        writer.writerow([*map(spreadsheet_cell, about), *values, *found])
    return text.getvalue()


def page(table: Table, report: str | None) -> str:
    """The table as a page that needs no network; `report` is the page with the pictures."""
    rows = [{"state": line.look, "head": head, "cells": line.cells} for line, head in heads(table)]
    return render(
        PAGE,
        title=table.title,
        heading=table.title,
        about=table.about,
        head=headings(table),
        rows=rows,
        remarks=_remarks(table),
        report=report,
        labels=_plotted(table),
        look=look,
        plots=list(_plots(table).values()),
    )


def _plotted(table: Table) -> list[str]:
    """The names of those whose nearness to full precision is there."""
    near = (line.label for line in table.lines if TO_FULL_PRECISION in line.values)
    return list(dict.fromkeys(near))


def _plots(table: Table) -> dict[str, str]:
    """SVG of nearness to full precision against size and against time, by their columns, as far as
    the table has these."""
    titles, labels = {column.key: column.title for column in table.columns}, _plotted(table)
    if TO_FULL_PRECISION not in titles:
        return {}
    figures, name = {}, titles[TO_FULL_PRECISION]
    for key in (SIZE, SECONDS):
        points = [
            Point(
                line.values[key],
                line.values[TO_FULL_PRECISION],
                labels.index(line.label),
                f"{line.row}: {line.values[TO_FULL_PRECISION]:.2f} dB",
            )
            for line in table.lines
            if {key, TO_FULL_PRECISION} <= line.values.keys()
        ]
        if key in titles and points:
            figures[key] = plot(f"{name} against {titles[key]}", titles[key], name, points)
    return figures
