"""The tables as data: `configs/tables/*.yaml`. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, model_validator

from passionsr_cli.config import Settings
from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.published import COSTS
from passionsr_cli.layering import settings_from
from passionsr_cli.metrics.catalogue import PROTOCOLS, Protocol, metrics_of
from passionsr_cli.system.paths import configs_folder
from passionsr_cli.system.text import suggestion

FULL_PRECISION = "fp"
TO_FULL_PRECISION = "to_fp_db"
SIZES = ("parameters_m", "operations_g")


@dataclass(frozen=True)
class Column:
    """`digits` None are those that papers print of a metric."""

    key: str
    title: str
    digits: int | None = None


_OWN_COLUMNS = (
    Column("hours", "time (h)", 3),
    Column("memory_gb", "memory (GB)", 1),
    Column("parameters_m", "params (M)", 1),
    Column("operations_g", "ops (G)", 1),
    Column(TO_FULL_PRECISION, "to FP (dB) ↑", 2),
)
assert {column.key for column in _OWN_COLUMNS} == {*COSTS, TO_FULL_PRECISION}


class RowDefinition(Settings):
    """One row: the model itself, what a method makes of it at some bits, or, `published_only`,
    nothing that we compute.

    `bits` and `configs` are those of `passionsr calibrate`: w6a6 or a preset, and presets or
    files on top, and then what the row itself says of its method, `method_settings`. With a
    `timestep` the model is retrained there before (TRQ, QArtSR).
    """

    label: str
    bits: str = FULL_PRECISION
    method: str | None = None
    configs: tuple[str, ...] = ()
    method_settings: dict[str, Any] = Field(default_factory=dict)
    timestep: NonNegativeInt | None = None
    published_only: bool = False

    @property
    def bits_title(self) -> str:
        """'W8A8' of w8a8 and of w8a8-unet."""
        return self.bits.partition("-")[0].upper()

    @property
    def name(self) -> str:
        """'PassionSR W8A8', as published numbers are called."""
        return self.label if self.bits == FULL_PRECISION else f"{self.label} {self.bits_title}"


class TableDefinition(Settings):
    """A table. `published` is the source of its numbers in `evaluation/published.yaml`; columns
    are metrics of the protocol, costs, and `to_fp_db`, the PSNR to the full-precision images."""

    title: str
    published: str
    protocol: Protocol = "passionsr"
    columns: tuple[str, ...]
    rows: tuple[RowDefinition, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> TableDefinition:
        known = [*(metric.key for metric in PROTOCOLS[self.protocol]), *COSTS, TO_FULL_PRECISION]
        for column in self.columns:
            if column not in known:
                raise ValueError(f"no column '{column}'; there are {', '.join(known)}")
        for row in self.rows:
            calibrated = row.bits != FULL_PRECISION and not row.published_only
            if calibrated and not self.of_sizes and row.method is None:
                raise ValueError(f"row '{row.name}' names no method")
            if row.method is None and (row.method_settings or row.timestep is not None):
                raise ValueError(f"row '{row.name}' says how, but names no method")
        return self

    @property
    def of_sizes(self) -> bool:
        """True if it is about size and work alone: nothing is calibrated or evaluated."""
        return set(self.columns) <= set(SIZES)

    def shown_columns(self, metrics: Sequence[str] | None) -> tuple[Column, ...]:
        """The columns with their titles; of the metrics only these, if some are wanted."""
        scored = {
            metric.key: Column(
                metric.key, f"{metric.title} {'↓' if metric.lower_is_better else '↑'}"
            )
            for metric in metrics_of(self.protocol, metrics)
        }
        columns = {**scored, **{column.key: column for column in _OWN_COLUMNS}}
        return tuple(columns[key] for key in self.columns if key in columns)

    def chosen_rows(self, only: Sequence[str]) -> tuple[RowDefinition, ...]:
        """The rows whose name holds one of these texts; all, if there are none."""
        wanted = [text.lower() for text in only]
        for text in wanted:
            if not any(text in row.name.lower() for row in self.rows):
                names = ", ".join(row.name for row in self.rows)
                raise ConfigError(f"no row is called '{text}'; there are: {names}")
        return tuple(
            row
            for row in self.rows
            if not wanted or any(text in row.name.lower() for text in wanted)
        )


def table_names() -> list[str]:
    """The tables of the package."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def read_table(wanted: str) -> TableDefinition:
    """A table by name, or of a YAML file. Raises `ConfigError`."""
    path = _folder() / f"{wanted}.yaml"
    if not path.is_file():
        path = Path(wanted)
    if not path.is_file():
        raise ConfigError(f"unknown table '{wanted}'{suggestion(wanted, table_names())}")
    return settings_from(str(path), TableDefinition)


def _folder() -> Path:
    return configs_folder() / "tables"
