"""Tables on terminals of given widths, and in pipes."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from passionsr_cli.terminal import tables
from passionsr_cli.terminal.tables import numbers, print_table, words

COLUMNS = [*words("name"), *numbers("steps"), *words("remark"), *numbers("MB", spare=True)]
ROWS = [
    ("mini-w6a6-passionsr", "", "made on a Sunday, of seven photographs", "9.8"),
    ("größer", "", "", "12.5"),
]


def _shown(monkeypatch: pytest.MonkeyPatch, width: int, terminal: bool) -> list[str]:
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(tables, "output", console)
    print_table(COLUMNS, ROWS, "two checkpoints")
    return file.getvalue().splitlines()


def test_a_terminal_is_spared_of_empty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    title, heads, rule, *rows = _shown(monkeypatch, 80, terminal=True)
    assert title == "two checkpoints"
    assert heads.split() == ["name", "remark", "MB"]
    assert set(rule) == {"─"}
    assert rows[0].split() == ROWS[0][0].split() + ROWS[0][2].split() + ["9.8"]


@pytest.mark.parametrize("width", [30, 40, 50, 70])
def test_words_are_folded_and_spare_columns_go(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = _shown(monkeypatch, width, terminal=True)
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()).count("…") == 0
    assert ("MB" in lines[1]) == (width == 70)


@pytest.mark.parametrize("width", [20, 80])
def test_a_pipe_gets_plain_columns_that_can_be_counted(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    assert _shown(monkeypatch, width, terminal=False) == [
        "two checkpoints",
        "name                 steps  remark                                    MB",
        "mini-w6a6-passionsr      -  made on a Sunday, of seven photographs   9.8",
        "größer                   -  -                                       12.5",
    ]
