"""Files that this program makes where people say: earlier ones of its own are replaced, files of
others never."""

from __future__ import annotations

import os
from itertools import count

# Unlike that of `Path`, this one raises nothing.
from os.path import isfile, lexists
from pathlib import Path

from passionsr_cli.errors import OutputError

# By which they are known, near their beginning or their end, in one of these forms: pages, PNG,
# SVG, PDF. A text that only mentions it is somebody else's.
MADE_BY, ENDS_BYTES = "Made by passionsr", 4096
_FORMS = ("<!-- {} -->", "Comment\0{}", "Creator\0{}", "<dc:title>{}</dc:title>", "/Creator ({})")
# The same as metadata of matplotlib's pictures, whatever their format.
MARK = {"Creator": MADE_BY}


def is_own(path: Path) -> bool:
    """Tell whether this program made a file, and marked it."""
    # Opening a pipe would wait for its other end.
    if not isfile(path):
        return False
    try:
        with path.open("rb") as file:
            ends = file.read(ENDS_BYTES)
            file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS_BYTES))
            ends += file.read()
    except OSError:
        return False
    return any(form.format(MADE_BY).encode() in ends for form in _FORMS)


def place_for(path: Path) -> Path:
    """`path`, or where somebody else's file is, the first of its name with a number that is free
    or our own."""
    numbers = count(2)
    place = path
    while lexists(place) and not is_own(place):
        place = path.with_stem(f"{path.stem}-{next(numbers)}")
    return place


def check_replaceable(path: Path, *beside: str) -> None:
    """Refuse to write a marked file, and those that go `beside` it without a mark, where others
    have such files. Raises `OutputError`."""
    if is_own(path):
        return
    for place in (path, *map(path.with_name, beside)):
        if lexists(place):
            raise OutputError(
                f"{place}: is there already, and passionsr did not make it; move it, or choose "
                "another --output"
            )
