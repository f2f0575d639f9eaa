"""Contact sheets that this program wrote: no images to upscale."""

from __future__ import annotations

import re
from pathlib import Path

from passionsr_cli.system.own_files import is_own

SHEET_NAME = "contact-sheet.png"
# At the end of its name, with a number or without.
_SHEET = re.compile(r"contact-sheet(-\d+)?\.png$")


def is_sheet(path: Path) -> bool:
    """Tell whether an image is a contact sheet of ours, and not one that is called like it."""
    return _SHEET.search(path.name) is not None and is_own(path)
