from __future__ import annotations

from typing import Any

from passionsr_cli.reproduction.definitions import RowDefinition, TableDefinition
from passionsr_cli.reproduction.ranking import ranked, ranking_remarks
from passionsr_cli.reproduction.results import Line, our_line

TABLE = TableDefinition(
    title="A table", columns=("to_fp_db", "mb"), rows=(), seeds=(0, 1), best_below_mb=(5, 8)
)


def _line(label: str, nearness: float | None, mb: float, seconds: float | None = None) -> Line:
    values: dict[str, Any] = {"to_fp_db": nearness, "mb": mb, "seconds": seconds}
    given = {key: value for key, value in values.items() if value is not None}
    row = RowDefinition(label=label, bits="w4a4", method="maxmin")
    return our_line(row, "mini", TABLE.shown_columns(None), given)


def _beaten(*lines: Line) -> list[str]:
    return [line.label for line in ranked(lines) if line.beaten]


def test_rows_stand_from_the_smallest_to_the_largest() -> None:
    lines = (_line("large", 50, 9), _line("small", 30, 3), _line("model", None, 24))
    assert [line.label for line in ranked(lines)] == ["small", "large", "model"]


def test_a_row_is_beaten_by_one_that_is_better_in_all() -> None:
    good = _line("good", 45, 6, 0.1)
    assert _beaten(good, _line("worse", 44, 7, 0.2)) == ["worse"]
    assert _beaten(good, _line("worse but smaller", 44, 5, 0.2)) == []
    assert _beaten(good, _line("worse but faster", 44, 7, 0.05)) == []
    # Times of equal work differ by some percent.
    assert _beaten(good, _line("as fast", 44, 7, 0.098)) == ["as fast"]
    assert _beaten(good, _line("a tie", 44.9, 7, 0.2)) == []
    assert _beaten(good, _line("model", None, 24, 0.3)) == []
    assert _beaten(good, good) == []


def test_the_nearest_below_each_size_is_named_with_its_ties() -> None:
    lines = (_line("A", 40, 4.9), _line("B", 45, 6), _line("C", 44.9, 7), _line("D", 60, 9))
    remarks = ranking_remarks(lines, TABLE)
    assert remarks[:2] == (
        "The nearest below 5 MB: A W4A4, 40.00 dB.",
        "The nearest below 8 MB: B W4A4, 45.00 dB (a tie with C W4A4).",
    )
    assert "Numbers are means over 2 seeds, ± the deviation." in remarks
    assert ranking_remarks(lines, TABLE.model_copy(update={"best_below_mb": ()})) == ()
    assert ranking_remarks((), TABLE)[0].startswith("Differences below 0.2 dB")
