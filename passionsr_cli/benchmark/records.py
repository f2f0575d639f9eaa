"""A benchmark against an earlier one, of this machine or of another.

Machines differ in speed, so rows are compared as ratios: the seconds of a row over those of one
reference row of the same run, now and then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from passionsr_cli.benchmark.measurements import Measurement
from passionsr_cli.errors import ConfigError, StoreError
from passionsr_cli.system.files import read_json
from passionsr_cli.system.text import first_fault

# What nobody here can make slower comes first.
REFERENCES = (("torch", "fp32-nchw"), ("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))

_ROWS = TypeAdapter(list[Measurement])

# Backend, variant, precision around integers, model and size.
Key = tuple[str, str, str, str, int]


@dataclass(frozen=True)
class Change:
    """One row, now and in the record: seconds as multiples of the reference row's.

    `change` is now/before − 1; `slower` says that this is more than is tolerated.
    """

    backend: str
    variant: str
    before: float
    now: float
    change: float
    slower: bool


@dataclass(frozen=True)
class Comparison:
    """Changes of all rows that both runs have but the `reference` (backend and variant).

    `missing` are rows of the record that this run lacks, or that failed in it.
    """

    reference: str
    tolerance: float
    changes: tuple[Change, ...]
    missing: tuple[str, ...]

    @property
    def slower(self) -> tuple[Change, ...]:
        """Rows that slowed by more than is tolerated."""
        return tuple(change for change in self.changes if change.slower)


def read_record(path: Path) -> list[Measurement]:
    """The rows of a file that holds what `bench --json` printed.

    Raises `StoreError` if it is something else.
    """
    try:
        rows = _ROWS.validate_python(read_json(path)["rows"])
        if not all(row.seconds is None or 0 < row.seconds < math.inf for row in rows):
            raise ValueError("seconds that are none")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        reason = first_fault(error) if isinstance(error, ValidationError) else error
        raise StoreError(
            f"{path} is no record of a benchmark ({reason}); `bench --json > FILE` writes one"
        ) from None
    return rows


def check_comparable(planned: Iterable[Key], before: Sequence[Measurement]) -> None:
    """Refuse, before any work, rows of which the record has fewer than two."""
    if len(set(planned) & set(_by_key(before))) < 2:
        raise ConfigError(
            "nothing to compare: the record has fewer than two of the rows to be measured, of the "
            "same model, size, variant, backend and precision; measure with the record's options"
        )


def compare(
    now: Sequence[Measurement], before: Sequence[Measurement], tolerance: float
) -> Comparison:
    """Rows of two runs, compared by their ratios to the reference row of each."""
    found, recorded = _by_key(now), _by_key(before)
    common = [key for key in recorded if key in found]
    missing = tuple(" ".join(key[:2]) for key in recorded if key not in found)
    if not common:
        return Comparison("nothing", tolerance, (), missing)
    reference = _reference(common)
    changes = []
    for key in common:
        if key != reference:
            then = recorded[key] / recorded[reference]
            ratio = found[key] / found[reference]
            change = ratio / then - 1
            changes.append(Change(key[0], key[1], then, ratio, change, change > tolerance))
    return Comparison(" ".join(reference[:2]), tolerance, tuple(changes), missing)


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """For JSON: `Comparison` with what slowed by name."""
    return {
        "reference": comparison.reference,
        "tolerance": comparison.tolerance,
        "changes": [vars(change) for change in comparison.changes],
        "slower": [f"{change.backend} {change.variant}" for change in comparison.slower],
        "missing": list(comparison.missing),
    }


def _by_key(rows: Sequence[Measurement]) -> dict[Key, float]:
    """Seconds of the rows that were measured."""
    return {
        (row.backend, row.variant, row.precision, row.model, row.size): row.seconds
        for row in rows
        if row.seconds is not None
    }


def _reference(common: Sequence[Key]) -> Key:
    ranks: Mapping[tuple[str, ...], int] = {name: rank for rank, name in enumerate(REFERENCES)}
    return min(common, key=lambda key: ranks.get(key[:2], len(ranks)))
