"""Numbers that papers printed, beside ours, marked where the two cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, model_validator

from passionsr_cli.config import Settings
from passionsr_cli.evaluation.datasets import Dataset
from passionsr_cli.evaluation.results import PublishedRow
from passionsr_cli.metrics.catalogue import PROTOCOLS, Protocol

FILE = Path(__file__).parent / "published.yaml"


class Line(Settings):
    """A row of a published table; `values`, as printed, in the order of the table's columns."""

    dataset: str
    name: str
    values: tuple[Annotated[str, Field(pattern=r"^\d+\.\d+$")], ...]


class Table(Settings):
    """A published table. `crops` says that it was measured on StableSR's crops."""

    source: str
    url: str
    protocol: Protocol
    crops: bool
    note: str = ""
    columns: tuple[str, ...]
    rows: tuple[Line, ...]

    @model_validator(mode="after")
    def _rows_fill_the_columns(self) -> Table:
        known = {metric.key for metric in PROTOCOLS[self.protocol]}
        if unknown := set(self.columns) - known:
            raise ValueError(f"{self.source}: protocol {self.protocol} has no {unknown}")
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(f"{self.source}: {row.name} has {len(row.values)} values")
        return self


class Published(Settings):
    """The whole file."""

    tables: tuple[Table, ...]


def read_published() -> Published:
    """All published tables of the package."""
    return Published.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def published_rows(dataset: Dataset, protocol: Protocol) -> tuple[PublishedRow, ...]:
    """What was published for a data set; rows that cannot be compared come last and say why."""
    rows = [
        PublishedRow(
            row.name,
            table.source,
            {key: float(value) for key, value in zip(table.columns, row.values, strict=True)},
            dict(zip(table.columns, row.values, strict=True)),
            _objection(table, dataset, protocol),
        )
        for table in read_published().tables
        for row in table.rows
        if row.dataset == dataset.name
    ]
    return tuple(sorted(rows, key=lambda row: row.not_comparable != ""))


def _objection(table: Table, dataset: Dataset, protocol: Protocol) -> str:
    """Why numbers of a table cannot be compared with ours, if they cannot."""
    objections = []
    if table.crops != dataset.crops:
        ours = "ours are of the 512×512 crops" if dataset.crops else "ours are of whole images"
        theirs = "of the 512×512 crops" if table.crops else table.note or "of whole images"
        objections.append(f"{theirs}; {ours}")
    if table.protocol != protocol:
        objections.append(f"protocol {table.protocol}, whose MANIQA is another metric")
    return "; ".join(objections)
