"""Numbers that papers printed, beside ours, marked where the two cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, model_validator

from passionsr_cli.config import Settings
from passionsr_cli.data.pairs import Dataset
from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.results import PublishedRow
from passionsr_cli.metrics.catalogue import PROTOCOLS, Protocol

FILE = Path(__file__).parent / "published.yaml"
# What tables print beside metrics: cost of a calibration, size and work of a model.
COSTS = ("hours", "memory_gb", "parameters_m", "operations_g")


class Line(Settings):
    """A row of a published table; `values`, as printed, in the order of the table's columns.

    Sizes are of no data set.
    """

    dataset: str | None = None
    name: str
    values: tuple[Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")], ...]


class Table(Settings):
    """A published table: `columns` are metrics of its protocol, if it has one, and `COSTS`.
    `crops` says that it was measured on StableSR's crops."""

    source: str
    url: str
    protocol: Protocol | None = None
    crops: bool = False
    note: str = ""
    columns: tuple[str, ...]
    rows: tuple[Line, ...]

    @model_validator(mode="after")
    def _rows_fill_the_columns(self) -> Table:
        known = set() if self.protocol is None else {m.key for m in PROTOCOLS[self.protocol]}
        if unknown := set(self.columns) - known - set(COSTS):
            raise ValueError(f"{self.source}: protocol {self.protocol} has no {unknown}")
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(f"{self.source}: {row.name} has {len(row.values)} values")
        return self

    def printed(self, row: Line) -> dict[str, str]:
        """A row's values by column."""
        return dict(zip(self.columns, row.values, strict=True))

    def objection(self, dataset: Dataset, protocol: Protocol) -> str:
        """Why its metrics cannot be compared with ours, if they cannot."""
        objections = []
        if self.crops != dataset.crops:
            ours = "ours are of the 512×512 crops" if dataset.crops else "ours are of whole images"
            theirs = "of the 512×512 crops" if self.crops else self.note or "of whole images"
            objections.append(f"{theirs}; {ours}")
        if self.protocol != protocol:
            objections.append(f"protocol {self.protocol}, whose MANIQA is another metric")
        return "; ".join(objections)


class Published(Settings):
    """The whole file."""

    tables: tuple[Table, ...]


def read_published() -> Published:
    """All published tables of the package."""
    return Published.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def published_table(source: str) -> Table:
    """The published table of this source. Raises `ConfigError`."""
    tables = {table.source: table for table in read_published().tables}
    if source not in tables:
        raise ConfigError(f"nothing is published as '{source}'; there are: {'; '.join(tables)}")
    return tables[source]


def published_rows(dataset: Dataset, protocol: Protocol) -> tuple[PublishedRow, ...]:
    """Published rows for a data set; those that cannot be compared come last and say why."""
    rows = []
    for table in read_published().tables:
        for line in (row for row in table.rows if row.dataset == dataset.name):
            printed = {k: v for k, v in table.printed(line).items() if k not in COSTS}
            metrics = {key: float(value) for key, value in printed.items()}
            objection = table.objection(dataset, protocol)
            rows.append(PublishedRow(line.name, table.source, metrics, printed, objection))
    return tuple(sorted(rows, key=lambda row: row.not_comparable != ""))
