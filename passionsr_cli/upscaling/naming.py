"""Names of results, and how they are found again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from passionsr_cli.errors import ConfigError
from passionsr_cli.imaging.encoding import OUTPUT_FORMATS
from passionsr_cli.imaging.files import IMAGE_SUFFIXES

# Other suffixes of formats that are written.
SIMILAR = {"jpe": "jpg", "jfif": "jpg", "heif": "heic", "hif": "heic"}


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

    def check(self) -> None:
        """Refuse a template that says a format which is read, but not written."""
        suffix = Path(self.template).suffix.lower()
        if suffix in IMAGE_SUFFIXES and suffix not in OUTPUT_FORMATS:
            known = ", ".join(OUTPUT_FORMATS)
            raise ConfigError(f"--name: cannot write '{suffix}' files; use one of {known}, or none")

    def check_quality(self, file: Path | None) -> None:
        """Refuse a quality that no result could have: neither `file`, if that is the only one, nor
        any that is called by the template."""
        names = (self.result("a.png"), self.result("a.jpg")) if file is None else (file,)
        suffixes = [Path(name).suffix.lower() for name in names]
        if not any("quality" in OUTPUT_FORMATS.get(suffix, {}) for suffix in suffixes):
            raise ConfigError(
                f"--quality: '{suffixes[0]}' files have none; JPEG, WebP, AVIF and HEIC do"
            )

    def result(self, name: str) -> str:
        """The result's file name of an input's."""
        stem, ext = Path(name).stem, Path(name).suffix.removeprefix(".")
        own = ext if f".{ext}".lower() in OUTPUT_FORMATS else SIMILAR.get(ext.lower(), "png")
        template = re.sub(r"\.\{ext\}$", f".{own}", self.template)
        filled = template.replace("{stem}", stem).replace("{ext}", ext)
        if Path(template).suffix.lower() in OUTPUT_FORMATS:
            return filled
        return f"{filled}.{own if self.format == 'same' else self.format}"
