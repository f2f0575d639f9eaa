"""Tables on stdout: no name is cut, what has no room is left out, pipes get plain columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from passionsr_cli.system.text import one_line
from passionsr_cli.terminal.console import output

UNLIMITED = 10_000
# What is left at least for all columns of words together.
WORDS = 20
# An empty cell in a pipe, where columns are counted.
NOTHING = "-"


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
    """A table as wide as the terminal, without columns that are empty; in a pipe all columns.

    `styles` are those of single rows, by their numbers.
    """
    lines = [[one_line(cell) for cell in row] for row in rows]
    if title:
        output.print(Text(title), soft_wrap=not output.is_terminal)
    if not output.is_terminal:
        _print_plain(columns, lines)
        return
    shown = [index for index in range(len(columns)) if any(line[index] for line in lines)]

    def table() -> Table:
        made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for index in shown:
            justify = "right" if columns[index].number else "left"
            made.add_column(
                Text(columns[index].title),
                justify=justify,  # type: ignore[arg-type]
                overflow="fold",
                no_wrap=columns[index].number,
            )
        for number, line in enumerate(lines):
            style = (styles or {}).get(number)
            made.add_row(*(Text(line[index]) for index in shown), style=style)
        return made

    spare = [index for index in shown if columns[index].spare]
    while spare and _width(table()) > output.width:
        shown.remove(spare.pop())
    fixed = Table(*(columns[index].title for index in shown if columns[index].number))
    if _width(fixed) + WORDS > output.width:
        _print_whole(table())
    else:
        output.print(table())


def _print_plain(columns: Sequence[Column], lines: Sequence[Sequence[str]]) -> None:
    """Columns two spaces apart, for programs: nothing is folded, an empty cell is a dash."""
    cells = [[column.title for column in columns]]
    cells += [[cell or NOTHING for cell in line] for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = list[str]()
        for column, cell, width in zip(columns, line, widths, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if column.number else cell + space)
        output.print(Text("  ".join(padded).rstrip()), soft_wrap=True)


def _print_whole(table: Table) -> None:
    """A table on stdout, wider than the terminal rather than without its numbers."""
    before, output.width = output.width, max(output.width, _width(table))
    output.print(table, soft_wrap=True)
    output.width = before


def _width(table: Table) -> int:
    """Columns that a table takes if nothing is folded."""
    return output.measure(table, options=output.options.update(width=UNLIMITED)).maximum
