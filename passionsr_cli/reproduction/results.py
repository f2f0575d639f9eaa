"""A reproduced table: our numbers and the published ones, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from passionsr_cli.evaluation.results import shown
from passionsr_cli.reproduction.definitions import (
    DEVIATION,
    TO_FULL_PRECISION,
    Column,
    RowDefinition,
)

State = Literal["done", "failed", "to come", "published", "published only"]


@dataclass(frozen=True)
class Line:
    """One line of a row: ours, or what was published.

    `values` are numbers in the unit of their columns, `cells` the same as tables show them, one
    for each column. `error` says why ours are not there. `beaten` says that another row is better
    in all that one chooses by.
    """

    row: str
    bits: str
    label: str
    whose: str
    state: State
    values: dict[str, float]
    cells: tuple[str, ...]
    checkpoint: str | None = None
    error: str = ""
    beaten: bool = False

    @property
    def look(self) -> str:
        """The first word of its state, or beaten: what tables show it as."""
        return "beaten" if self.beaten else self.state.split()[0]


@dataclass(frozen=True)
class Table:
    """All lines in order. `about` says of what ours are, `remarks` what to know of the numbers,
    `missing` why a metric could not be computed, by its title."""

    folder: Path
    title: str
    about: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    remarks: tuple[str, ...]
    missing: dict[str, str]

    @property
    def failed(self) -> list[Line]:
        return [line for line in self.lines if line.state == "failed"]

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `--json`."""
        return {**asdict(self), "folder": str(self.folder)}


def our_line(
    row: RowDefinition,
    whose: str,
    columns: tuple[Column, ...],
    values: Mapping[str, float],
    checkpoint: str | None = None,
) -> Line:
    """A finished line of ours; metrics without a number are missing, costs that there are not
    stay empty."""
    cells = []
    for column in columns:
        if column.key in values:
            value = values[column.key]
            digits = column.digits
            cell = shown(column.key, value) if digits is None else f"{value:,.{digits}f}"
            if column.key == TO_FULL_PRECISION and DEVIATION in values:
                cell += f" ± {values[DEVIATION]:.2f}"
            cells.append(cell)
        else:
            cells.append("missing" if column.digits is None else "")
    return _line(row, whose, "done", dict(values), tuple(cells), checkpoint)


def unfinished_line(
    row: RowDefinition,
    whose: str,
    columns: tuple[Column, ...],
    checkpoint: str | None,
    error: str = "",
) -> Line:
    """A line of ours that failed, if there is an error, or is still to come."""
    state: State = "failed" if error else "to come"
    cells = (state, *("" for _ in columns[1:]))
    return _line(row, whose, state, {}, cells, checkpoint, error)


def published_line(
    row: RowDefinition, columns: tuple[Column, ...], printed: dict[str, str]
) -> Line:
    """Line of a paper, digit for digit."""
    state: State = "published only" if row.published_only else "published"
    values = {key: float(value) for key, value in printed.items()}
    cells = tuple(printed.get(column.key, "") for column in columns)
    return _line(row, state, state, values, cells)


def _line(
    row: RowDefinition,
    whose: str,
    state: State,
    values: dict[str, float],
    cells: tuple[str, ...],
    checkpoint: str | None = None,
    error: str = "",
) -> Line:
    return Line(row.name, row.bits_title, row.label, whose, state, values, cells, checkpoint, error)
