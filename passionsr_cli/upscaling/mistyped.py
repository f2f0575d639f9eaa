"""Inputs that are not there, and what was meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from glob import has_magic
from itertools import islice

# Unlike those of `Path`, these take names that are too long.
from os.path import exists, isdir, islink
from pathlib import Path

from passionsr_cli.errors import ConfigError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.encoding import OUTPUT_FORMATS
from passionsr_cli.system.text import nearest

# Of a name that the shell took apart.
MOST_WORDS = 8
# Names in a folder that a mistyped one is compared with, and how alike the nearest must be.
MOST_NAMES, ALIKE = 2000, 0.7


def check_quotes(inputs: Sequence[str]) -> None:
    """Refuse the parts of a name with spaces, which the shell took apart."""
    for missing in (place for place, given in enumerate(inputs) if not exists(given)):
        for first in range(max(0, missing - MOST_WORDS), missing + 1):
            for last in range(missing + 1, missing + MOST_WORDS):
                whole = " ".join(inputs[first:last])
                if last - first > 1 and exists(whole):
                    raise ConfigError(f"a name with spaces needs quotes: '{whole}'")


def check_output_named(inputs: Sequence[str]) -> None:
    """Refuse 'in.jpg out.png', which other programs take as input and output."""
    if len(inputs) != 2:
        return
    first, last = inputs
    if not exists(first) or exists(last) or has_magic(last):
        return
    if Path(last).suffix.lower() in OUTPUT_FORMATS:
        raise ConfigError(f"{last}: no such file; if it is to be the result: --output {last}")


def why_absent(source: str) -> str:
    """Why there is no such input."""
    if "://" in source:
        return "an address, not a file; download it, then upscale the file"
    path = Path(source)
    if islink(source):
        return f"no such file: a link to {os.readlink(source)}, which is not there"
    try:
        os.stat(source)
    except PermissionError:
        return f"no permission to look into {path.parent}"
    except (OSError, ValueError):
        pass
    near = [f"{samples.PREFIX}{source}"] if source in samples.NAMES else []
    if not near and isdir(path.parent):
        with suppress(OSError), os.scandir(path.parent) as found:
            names = [each.name for each in islice(found, MOST_NAMES)]
            near = [str(path.parent / name) for name in nearest(path.name, names, ALIKE)]
    return f"no such file; did you mean '{near[0]}'?" if near else "no such file"
