"""Versions of one image: the input, the result, and what other models or settings make of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.imaging.files import read_picture, read_rgb
from passionsr_cli.imaging.finishing import finished
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.pixels.arrays import rounded_levels
from passionsr_cli.pixels.resampling import resampled_rows
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.paths import StrPath
from passionsr_cli.upscaling.images import Done, Skipped, open_upscaler

# Of a larger result the page and the sheet show the place with most detail.
SIDE_PX = 1024
COARSE_PX = 16
# A result may be as much larger than the largest input as one can ask for.
LARGEST_RESULT_PX = 10**10

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Version:
    """A part of an image as it is in one version; `rgb` (3, H, W), 0 to 255, all of one size."""

    name: str
    rgb: Levels


@dataclass(frozen=True)
class Compared:
    """All versions of an image, the input first, then the result.

    `name` is the input's, with the folders that tell it from others.
    """

    name: str
    versions: tuple[Version, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of each version in pixels."""
        height, width = self.versions[0].rgb.shape[1:]
        return int(width), int(height)


def settings_beside(beside: Sequence[str], settings: UpscaleSettings) -> dict[str, UpscaleSettings]:
    """Settings of each further version by its name: a model, a checkpoint, or a realism 0…1.

    Raises `PassionSRError` for what is none of them or not here.
    """
    found: dict[str, dict[str, float | str | None]] = {}
    for name in beside:
        if re.fullmatch(r"[01]|0?\.\d+|1\.0*", name):
            found[f"realism {name}"] = {"realism": float(name)}
        elif re.fullmatch(r"-?\d+(\.\d+)?", name):
            raise ConfigError(f"--beside: '{name}' is no realism; it goes from 0 to 1")
        elif resolve(name).quantized:
            found[name] = {"model": None, "checkpoint": name}
        else:
            found[name] = {"model": name, "checkpoint": "none"}
    return {name: settings.model_copy(update=change) for name, change in found.items()}


def compare(
    results: Sequence[Done | Skipped],
    settings: UpscaleSettings,
    beside: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> list[Compared]:
    """The results beside their inputs and, for each of `beside`, what that makes of them, as large
    as the results are, whatever size the settings ask for."""
    if not results:
        raise ConfigError("nothing was upscaled, so there is nothing to compare")
    places = [_Place.of(done) for done in results]
    versions = [
        [Version("input, bicubic", place.input), Version("result", place.result)]
        for place in places
    ]
    for name, other in settings_beside(beside, settings).items():
        reporter.started(f"comparing with {name}", len(results))
        for number, rgb in enumerate(_made(places, other, reporter)):
            versions[number].append(Version(name, rgb))
            reporter.step(f"comparing with {name}", number + 1)
    names = _told_apart([place.source for place in places])
    return [Compared(name, tuple(each)) for name, each in zip(names, versions, strict=True)]


def _told_apart(sources: Sequence[str]) -> list[str]:
    """Paths of images below the folder that all are in, or whole where there is none."""
    folder = common_folder(sources)
    if folder is None:
        return list(sources)
    return [str(Path(source).relative_to(folder)) for source in sources]


def common_folder(files: Iterable[StrPath]) -> Path | None:
    """The deepest folder that all files are below; None of some that are named from the root and
    others that are not, or on other drives."""
    try:
        return Path(os.path.commonpath([os.path.dirname(file) for file in files]))
    except ValueError:
        return None


def _made(
    places: Sequence[_Place], settings: UpscaleSettings, reporter: Reporter
) -> Iterator[Levels]:
    upscaler = open_upscaler(settings, reporter)
    for place in places:
        picture = Picture(read_picture(place.source).rgb)
        large = upscaler.upscale(picture.rgb).rgb
        strips = finished([large], (large.shape[2], large.shape[1]), picture, place.size)
        yield place.cut(np.concatenate([rounded_levels(strip) for strip in strips], 1))


@dataclass(frozen=True)
class _Place:
    """The part of a result that is shown, and input and result there; `size` (width, height) is
    that of the whole result."""

    source: str
    size: tuple[int, int]
    top: int
    left: int
    input: Levels
    result: Levels

    @classmethod
    def of(cls, done: Done | Skipped) -> _Place:
        with _large_files_readable():
            result = read_rgb(done.output, LARGEST_RESULT_PX)
        height, width = result.shape[1:]
        top, left = _most_detail(result)
        shown = _cut(result, top, left)
        rows = (top, top + shown.shape[1])
        del result
        large = resampled_rows(read_picture(done.source).rgb, (height, width), rows, "bicubic")
        small = _cut(rounded_levels(large), 0, left)
        return cls(done.source, (width, height), top, left, small, shown)

    def cut(self, image: Levels) -> Levels:
        """The place in an image of the result's size."""
        return _cut(image, self.top, self.left)


@contextmanager
def _large_files_readable() -> Iterator[None]:
    """Lift Pillow's own limit, which is lower than that of results."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _cut(image: Levels, top: int, left: int) -> Levels:
    # A copy, so that the whole may go.
    return image[:, top : top + SIDE_PX, left : left + SIDE_PX].copy()


def _most_detail(image: Levels) -> tuple[int, int]:
    """Top and left of the square of `SIDE_PX` in which neighbouring pixels differ most."""
    height, width = ((side - 1) // COARSE_PX * COARSE_PX for side in image.shape[1:])
    if height <= SIDE_PX and width <= SIDE_PX:
        return 0, 0
    # Block by block of rows, which takes little memory.
    tops = range(0, height, COARSE_PX)
    blocks = np.stack([_detail(image[:, top : top + COARSE_PX + 1], width) for top in tops])
    sums = np.pad(blocks.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    down, across = (min(SIDE_PX // COARSE_PX, side) for side in (len(sums) - 1, sums.shape[1] - 1))
    windows = sums[down:, across:] - sums[:-down, across:] - sums[down:, :-across]
    windows = windows + sums[:-down, :-across]
    row, column = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(row) * COARSE_PX, int(column) * COARSE_PX


def _detail(rows: Levels, width: int) -> npt.NDArray[np.float32]:
    """Sums of differences to the pixels below and to the right, in blocks of `COARSE_PX` columns;
    the last of `rows` is only looked at from above."""
    grey = rows[:, :, : width + 1].mean(0, dtype=np.float32)
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    blocks: npt.NDArray[np.float32] = detail.reshape(len(detail), -1, COARSE_PX).sum((0, 2))
    return blocks
