"""Tables on stdout: no name is cut, what has no room is left out, pipes get plain columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from passionsr_cli.system.text import one_line
from passionsr_cli.terminal.console import output

UNLIMITED = 10_000
# What is left at least for all columns of words together.
WORDS = 20


@dataclass(frozen=True)
class Column:
    """A column of words, which may take several lines, or of numbers, which stand on one.

    `spare` ones are left out where a terminal has no room, the last ones first.
    """

    title: str
    number: bool = False
    spare: bool = False


def words(*titles: str) -> list[Column]:
    """Columns of words."""
    return [Column(title) for title in titles]


def numbers(*titles: str, spare: bool = False) -> list[Column]:
    """Columns of numbers."""
    return [Column(title, True, spare) for title in titles]


def print_table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    title: str = "",
    styles: Mapping[int, str] | None = None,
) -> None:
    """A table as wide as the terminal, or in a pipe as wide as it is and without rules.

    `styles` are those of single rows, by their numbers.
    """
    lines = [[Text(one_line(cell)) for cell in row] for row in rows]
    shown = list(range(len(columns)))
    plain = not output.is_terminal

    def table() -> Table:
        made = Table(title=Text(title) if title else None, padding=(0, 1, 0, 0), show_edge=False)
        made.box = None if plain else box.SIMPLE_HEAD
        for index in shown:
            justify = "right" if columns[index].number else "left"
            made.add_column(
                Text(columns[index].title),
                justify=justify,  # type: ignore[arg-type]
                overflow="fold",
                no_wrap=columns[index].number,
            )
        for number, line in enumerate(lines):
            made.add_row(*(line[index] for index in shown), style=(styles or {}).get(number))
        return made

    spare = [index for index, column in enumerate(columns) if column.spare]
    while spare and not plain and _width(table()) > output.width:
        shown.remove(spare.pop())
    fixed = Table(*(columns[index].title for index in shown if columns[index].number))
    if plain or _width(fixed) + WORDS > output.width:
        print_whole(table())
    else:
        output.print(table())


def print_whole(table: Table) -> None:
    """A table on stdout, wider than the terminal rather than without its numbers."""
    before, output.width = output.width, max(output.width, _width(table))
    output.print(table, soft_wrap=True)
    output.width = before


def _width(table: Table) -> int:
    """Columns that a table takes if nothing is folded."""
    return output.measure(table, options=output.options.update(width=UNLIMITED)).maximum
