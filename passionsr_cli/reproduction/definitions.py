"""The tables as data: `configs/tables/*.yaml`. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from passionsr_cli.bits import Bits
from passionsr_cli.budget import BudgetText
from passionsr_cli.config import Settings
from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.published import COSTS
from passionsr_cli.layering import settings_from
from passionsr_cli.metrics.catalogue import PROTOCOLS, Protocol, known_metrics, metrics_of
from passionsr_cli.system.paths import configs_folder
from passionsr_cli.system.text import suggestion

FULL_PRECISION = "fp"
TO_FULL_PRECISION, DEVIATION = "to_fp_db", "to_fp_deviation"
SIZE, SECONDS = "mb", "seconds"
SIZES = ("parameters_m", "operations_g")
COMPOSITION = (
    *("weight_bits", "branch_bits", "rest_bits"),
    *("named_share", "eight_share", "bf16_share", "float_share"),
)


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
    Column(SIZE, "MB ↓", 2),
    Column("weight_bits", "weights (bit/param)", 2),
    Column("branch_bits", "branches (bit/param)", 2),
    Column("rest_bits", "rest (bit/param)", 2),
    Column("named_share", "ops as named (%)", 0),
    Column("eight_share", "ops to 8 bits (%)", 0),
    Column("bf16_share", "ops in bf16 (%)", 0),
    Column("float_share", "ops in float (%)", 0),
    Column(SECONDS, "s an image ↓", 3),
    Column("minutes", "time (min)", 1),
)
assert {column.key for column in _OWN_COLUMNS} > {*COSTS, TO_FULL_PRECISION}


class RowDefinition(Settings):
    """One row: the model itself, what a method makes of it at some bits, or, `published_only`,
    nothing that we compute.

    `bits` and `configs` are those of `passionsr calibrate`: w6a6 or a preset, and presets or
    files on top, and then what the row itself says of its method, `method_settings`. A `budget`
    takes the place of `bits`. With a `timestep` the model is retrained there before (TRQ, QArtSR).
    """

    label: str
    bits: str = FULL_PRECISION
    budget: BudgetText | None = None
    method: str | None = None
    configs: tuple[str, ...] = ()
    method_settings: dict[str, Any] = Field(default_factory=dict)
    timestep: NonNegativeInt | None = None
    published_only: bool = False

    @property
    def bits_title(self) -> str:
        """'W8A8' of w8a8 and of w8a8-unet, '7MB' of a budget, 'QUICK' of another preset."""
        if self.budget is not None:
            return str(self.budget)
        named = self.bits if self.named_bits is None else self.bits.partition("-")[0]
        return named.upper()

    @property
    def named_bits(self) -> int | None:
        """The bits that a row is named after, the wider ones of w4a8; None of a budget, and of a
        preset whose name is none of widths."""
        if self.budget is not None:
            return None
        try:
            bits = Bits.parse(self.bits.partition("-")[0])
        except ValueError:
            return None
        return max(bits.weight, bits.activation)

    @property
    def name(self) -> str:
        """'PassionSR W8A8', as published numbers are called."""
        return f"{self.label} {self.bits_title}" if self.is_calibrated else self.label

    @property
    def is_calibrated(self) -> bool:
        """False for the model itself."""
        return self.bits != FULL_PRECISION or self.budget is not None


class TableDefinition(Settings):
    """A table. `published` is the source of its numbers in `evaluation/published.yaml`, if papers
    have any; columns are metrics of the protocol, costs, `to_fp_db`, the PSNR to the full-precision
    images, and what `composition` tells of a checkpoint.

    Rows are calibrated with each of the `seeds`, whatever a configuration says; their numbers are
    means. With `best_below_mb` rows are in the order of their sizes, those that others beat are
    marked, and the best below each of these sizes is named.
    """

    title: str
    published: str | None = None
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)
    best_below_mb: tuple[PositiveFloat, ...] = ()
    protocol: Protocol = "passionsr"
    columns: tuple[str, ...]
    rows: tuple[RowDefinition, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> TableDefinition:
        known = [*known_metrics(self.protocol), *(column.key for column in _OWN_COLUMNS)]
        if self.best_below_mb and not {SIZE, TO_FULL_PRECISION} <= {*self.columns}:
            raise ValueError(f"best_below_mb needs the columns {SIZE} and {TO_FULL_PRECISION}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, found {', '.join(map(str, self.seeds))}")
        names = [row.name for row in self.rows]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two rows are called '{twice[0]}'; give one of them another label")
        for column in self.columns:
            if column not in known:
                raise ValueError(f"no column '{column}'; there are {', '.join(known)}")
        for row in self.rows:
            calibrated = row.is_calibrated and not row.published_only
            planned = self.of_plans or not self.of_sizes
            if calibrated and planned and row.method is None:
                raise ValueError(f"row '{row.name}' names no method")
            if row.budget is not None and row.bits != FULL_PRECISION:
                raise ValueError(f"row '{row.name}' has bits and a budget; give one of them")
            if row.budget is not None and self.of_sizes and not row.published_only:
                raise ValueError(
                    f"row '{row.name}' has a budget, whose bits are measured, but the columns "
                    f"{', '.join(self.columns)} are of the architecture alone; give the row bits, "
                    f"or the table a column such as {TO_FULL_PRECISION}"
                )
            if row.method is None and (row.method_settings or row.timestep is not None):
                raise ValueError(f"row '{row.name}' says how, but names no method")
        return self

    @property
    def asked_seeds(self) -> tuple[int | None, ...]:
        """The seeds that the table asks for; None, where it says none, is a configuration's."""
        return self.seeds if "seeds" in self.model_fields_set else (None,)

    @property
    def of_sizes(self) -> bool:
        """True if it is about size and work alone: nothing is calibrated or evaluated."""
        return {*self.columns} <= {*SIZES, *COMPOSITION, SIZE}

    @property
    def of_plans(self) -> bool:
        """True if a table of sizes asks for what plans of layers decide."""
        return self.of_sizes and not {*self.columns} <= {*SIZES}

    @property
    def metrics(self) -> tuple[str, ...] | None:
        """The metrics that it names, if one of them has to be asked for; else None."""
        usual = {metric.key for metric in PROTOCOLS[self.protocol]}
        named = tuple(key for key in self.columns if key in known_metrics(self.protocol))
        return None if usual.issuperset(named) else named

    def shown_columns(self, metrics: Sequence[str] | None) -> tuple[Column, ...]:
        """The columns with their titles; of the metrics only these, if some are wanted."""
        scored = {
            metric.key: Column(
                metric.key, f"{metric.title} {'↓' if metric.lower_is_better else '↑'}"
            )
            for metric in metrics_of(self.protocol, metrics or self.metrics)
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
