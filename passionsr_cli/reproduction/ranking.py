"""Comparison of rows by what one chooses them by: nearness to full precision, size and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from passionsr_cli.reproduction.definitions import (
    SECONDS,
    SIZE,
    TO_FULL_PRECISION,
    TableDefinition,
)
from passionsr_cli.reproduction.results import Line

# Nearness to full precision differs by less from seed to seed, seconds from run to run.
TIE_DB, TIE_OF_SECONDS = 0.2, 0.05


def ranked(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Lines from the smallest checkpoint to the largest, with those marked that are beaten."""
    ordered = sorted(lines, key=lambda line: line.values.get(SIZE, math.inf))
    return tuple(
        replace(line, beaten=any(_beats(other, line) for other in lines)) for line in ordered
    )


def _beats(one: Line, other: Line) -> bool:
    """True if a line is nearer to full precision by more than a tie, no larger and no slower."""
    if TO_FULL_PRECISION not in one.values or TO_FULL_PRECISION not in other.values:
        return False
    if one.values[TO_FULL_PRECISION] < other.values[TO_FULL_PRECISION] + TIE_DB:
        return False
    longest = other.values.get(SECONDS, math.inf) * (1 + TIE_OF_SECONDS)
    return one.values[SIZE] <= other.values[SIZE] and one.values.get(SECONDS, 0.0) <= longest


def ranking_remarks(lines: Sequence[Line], table: TableDefinition) -> tuple[str, ...]:
    """The nearest row below each of a table's sizes, and what its marks mean; nothing where it
    names no sizes."""
    if not table.best_below_mb:
        return ()
    measured = [line for line in lines if TO_FULL_PRECISION in line.values]
    found = [_best_below(limit, measured) for limit in table.best_below_mb]
    seeds = len(table.seeds)
    return (
        *(text for text in found if text),
        f"Differences below {TIE_DB:g} dB to full precision are ties.",
        *([f"Numbers are means over {seeds} seeds, ± the deviation."] if seeds > 1 else []),
        "Grey, in Markdown italic: another row is nearer to full precision, as small and as fast.",
    )


def _best_below(limit: float, lines: Sequence[Line]) -> str:
    below = [line for line in lines if line.values[SIZE] <= limit]
    if not below:
        return ""
    best, *others = sorted(below, key=lambda line: -line.values[TO_FULL_PRECISION])
    nearness = best.values[TO_FULL_PRECISION]
    ties = [one.row for one in others if nearness - one.values[TO_FULL_PRECISION] < TIE_DB]
    text = f"The nearest below {limit:g} MB: {best.row}, {nearness:.2f} dB"
    return f"{text} (a tie with {', '.join(ties)})." if ties else f"{text}."
