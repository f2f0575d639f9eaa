"""Names of results, and how they are found again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from passionsr_cli.imaging.encoding import OUTPUT_FORMATS

# Other suffixes of formats that are written.
SIMILAR = {"jpe": "jpg", "jfif": "jpg", "heif": "heic"}


@dataclass(frozen=True)
class Naming:
    """Names of results, and how they are found again.

    `template` may hold {stem} and {ext}, the input's name without and its suffix without the dot;
    without the suffix of a format in it, results are of `format`. That may be 'same', as '.{ext}'
    in the template: the input's own, or PNG where that cannot be written. `keep` tells of a source
    and its result that exists whether it is wanted as it is; `overwrite` replaces all others.
    `source_of` tells of an image what an earlier run made it from.
    """

    template: str = "{stem}_x4"
    format: str = "png"
    recursive: bool = True
    overwrite: bool = False
    keep: Callable[[str, Path], bool] = lambda source, output: False
    source_of: Callable[[Path], str | None] = lambda image: None

    def result(self, name: str) -> str:
        """The result's file name of an input's."""
        stem, ext = Path(name).stem, Path(name).suffix.removeprefix(".")
        own = ext if f".{ext}".lower() in OUTPUT_FORMATS else SIMILAR.get(ext.lower(), "png")
        template = re.sub(r"\.\{ext\}$", f".{own}", self.template)
        filled = template.replace("{stem}", stem).replace("{ext}", ext)
        if Path(template).suffix.lower() in OUTPUT_FORMATS:
            return filled
        return f"{filled}.{own if self.format == 'same' else self.format}"
