"""Contact sheets and pages of comparisons that this program wrote: no images to upscale."""

from __future__ import annotations

import re

# Unlike that of `Path`, this one raises nothing.
from os.path import isfile
from pathlib import Path

SHEET_NAME = "contact-sheet.png"
# At the end of its name, with a number or without.
_SHEET = re.compile(r"contact-sheet(-\d+)?\.png$")
# By which a comparison is known, near its beginning.
MADE_BY, HEAD_BYTES = "Made by passionsr", 1000


def is_sheet(path: Path) -> bool:
    """Tell whether an image is a contact sheet of ours, and not one that is called like it."""
    return _SHEET.search(path.name) is not None and isfile(path) and is_comparison(path)


def is_comparison(path: Path) -> bool:
    """Tell whether a file is a comparison that this program wrote."""
    try:
        with path.open("rb") as file:
            return MADE_BY.encode() in file.read(HEAD_BYTES)
    except OSError:
        return False
