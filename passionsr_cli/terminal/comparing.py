"""`--compare` and `--contact-sheet` of passionsr upscale."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.terminal.console import show_note

if TYPE_CHECKING:
    from passionsr_cli.config import UpscaleSettings
    from passionsr_cli.upscaling.images import Done, Outcome, Skipped

PAGE_NAME = "compare.html"


@dataclass(frozen=True)
class Comparing:
    """Comparisons that are wanted: a page, a sheet, and further versions in them."""

    page: bool
    sheet: bool
    beside: tuple[str, ...]

    @property
    def wanted(self) -> bool:
        return self.page or self.sheet or bool(self.beside)

    def check(self, inputs: list[str], settings: UpscaleSettings, watching: bool) -> None:
        """Refuse comparisons and further versions that cannot be, before any work."""
        from passionsr_cli.comparison.versions import settings_beside
        from passionsr_cli.errors import ConfigError
        from passionsr_cli.terminal.streams import uses_streams
        from passionsr_cli.upscaling.images import artifact_for

        if self.wanted and (watching or uses_streams(inputs, settings.output)):
            raise ConfigError(
                "--compare, --contact-sheet and --beside are about images that are all known and "
                "have results in files; they do not go with --watch or '-'"
            )
        for other in settings_beside(self.beside, settings).values():
            artifact_for(other)

    def write(self, outcomes: Sequence[Outcome], settings: UpscaleSettings) -> None:
        """Write what is wanted of the images that have results, and say where it is."""
        from passionsr_cli.comparison.versions import compare
        from passionsr_cli.comparison.writing import write_page, write_sheet
        from passionsr_cli.system.own_files import place_for
        from passionsr_cli.terminal.progress import CurrentBar
        from passionsr_cli.upscaling.images import Failed
        from passionsr_cli.upscaling.sheets import SHEET_NAME

        done = [outcome for outcome in outcomes if not isinstance(outcome, Failed)]
        if not done or not self.wanted:
            return
        with CurrentBar() as bar:
            compared = compare(done, settings, self.beside, bar)
        if self.page or not self.sheet:
            place = place_for(_path(done, PAGE_NAME))
            write_page(place, compared)
            show_note(f"compare in a browser: {place}")
        if self.sheet:
            place = place_for(_path(done, SHEET_NAME))
            write_sheet(place, compared)
            show_note(f"contact sheet: {place}")


NOTHING = Comparing(page=False, sheet=False, beside=())


def _path(done: Sequence[Done | Skipped], name: str) -> Path:
    """Beside an only result, called like it; of several, in the folder that all are below, or
    beside the first where nothing can be put there."""
    from passionsr_cli.comparison.versions import common_folder

    first = done[0].output
    if len(done) == 1:
        return first.with_name(f"{first.stem}_{name}")
    folder = common_folder(each.output for each in done)
    if folder is None or not os.access(folder, os.W_OK):
        folder = first.parent
    return folder / name
