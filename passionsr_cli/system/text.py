"""Text from outside where it leaves: names of files can hold anything."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

# What moves a terminal's cursor, changes its title or turns the direction of text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Paths of files of our own, and what people know them as.
stand_ins: dict[str, str] = {}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_known(text: str) -> str:
    """Text in which `stand_ins` are called what they stand for."""
    for path, name in stand_ins.items():
        text = text.replace(path, name)
    return text


def printable(text: str) -> str:
    """Text that any terminal takes: control characters as escapes, bytes that are no text as '?'.

    Ends of lines and tabulators stay; see `one_line`.
    """
    safe = as_known(text).encode("utf-8", "replace").decode("utf-8")
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), safe)


def one_line(text: str) -> str:
    """Printable text without ends of lines, so that no name can pretend to be a message."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def spreadsheet_cell(text: str) -> str:
    """Text that a spreadsheet shows and does not compute, and a terminal does not obey: an
    apostrophe goes before a sign."""
    shown = printable(text)
    return f"'{shown}" if text.startswith(_FORMULA) else shown


def first_fault(error: ValidationError) -> str:
    """The first of the faults that pydantic found, in one line: 'rows.0.size: what is wrong'."""
    first = error.errors()[0]
    what = " ".join(first["msg"].removeprefix("Value error, ").split())
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), what)))


def counted(number: int, noun: str) -> str:
    """A number of things: '1 image', '2 images'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def nearest(typed: str, known: Iterable[str], alike: float = 0.6) -> list[str]:
    """The name that a mistyped one is most like, capitals aside, from 0 to 1 at least `alike`."""
    import difflib

    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(typed.lower(), names, n=1, cutoff=alike)
    return [names[name] for name in near]


def suggestion(typed: str, known: Iterable[str], most: int | None = None) -> str:
    """The end of a message about a mistyped name: '; did you mean 'coffee'?', or the names (of
    many the first `most`) that are known."""
    names = list(dict.fromkeys(known))
    several = typed.split(",")
    if len(several) > 1 and not set(names).isdisjoint(several):
        return f"; expected one name, found {len(several)}"
    near = nearest(typed, names) or [name for name in names if typed.lower() in name.lower()]
    if len(near) == 1:
        return f"; did you mean '{near[0]}'?"
    shown = names[:most] + ["…"] * (most is not None and most < len(names))
    return f"; known are {', '.join(shown) or 'none'}"


def in_bytes(count: int) -> str:
    """A size for people: 0.25 GB, 13 MB, 0.1 MB."""
    return (
        f"{count / 1e9:.2f} GB"
        if count >= 1e8
        else f"{max(count / 1e6, 0.1):.{0 if count >= 1e6 else 1}f} MB"
    )
