"""Versions of one image: the input, the result, and what other models or settings make of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.imaging.arrays import Array
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.imaging.resampling import bicubic
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.upscaling.images import Done, Skipped
from passionsr_cli.upscaling.library import OF_FILES, Upscaler

# Of a larger result the page and the sheet show the place with most detail.
SIDE_PX = 1024
COARSE_PX = 16


@dataclass(frozen=True)
class Version:
    """A part of an image as it is in one version; `rgb` (3, H, W) in [0, 1], all of one size."""

    name: str
    rgb: Array


@dataclass(frozen=True)
class Compared:
    """All versions of an image, the input first, then the result."""

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
    """The results beside their inputs and, for each of `beside`, what that makes of them."""
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
    return [
        Compared(Path(place.source).name, tuple(each))
        for place, each in zip(places, versions, strict=True)
    ]


def _made(
    places: Sequence[_Place], settings: UpscaleSettings, reporter: Reporter
) -> Iterator[Array]:
    options = settings.model_dump(exclude=set(OF_FILES), exclude_none=True)
    with Upscaler(reporter, **options) as upscaler:
        for place in places:
            rgb = np.ascontiguousarray(read_picture(place.source).rgb.transpose(1, 2, 0))
            yield place.cut(upscaler.upscale(rgb).transpose(2, 0, 1))


@dataclass(frozen=True)
class _Place:
    """The part of a result that is shown, and input and result there."""

    source: str
    top: int
    left: int
    input: Array
    result: Array

    @classmethod
    def of(cls, done: Done | Skipped) -> _Place:
        result = read_picture(done.output).rgb
        low = read_picture(done.source).rgb
        top, left = _most_detail(result)
        place = cls(done.source, top, left, low, result)
        large = bicubic(low, (result.shape[1], result.shape[2]))
        return cls(done.source, top, left, place.cut(large), place.cut(result))

    def cut(self, image: Array) -> Array:
        """The place in an image of the result's size."""
        rows, columns = slice(self.top, self.top + SIDE_PX), slice(self.left, self.left + SIDE_PX)
        return np.ascontiguousarray(image[:, rows, columns])


def _most_detail(image: Array) -> tuple[int, int]:
    """Top and left of the square of `SIDE_PX` in which neighbouring pixels differ most."""
    grey = image.mean(0)
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    height, width = (side // COARSE_PX * COARSE_PX for side in detail.shape)
    if height <= SIDE_PX and width <= SIDE_PX:
        return 0, 0
    blocks = detail[:height, :width].reshape(height // COARSE_PX, COARSE_PX, -1, COARSE_PX)
    sums = np.pad(blocks.sum((1, 3)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    down, across = (min(SIDE_PX // COARSE_PX, side) for side in (len(sums) - 1, sums.shape[1] - 1))
    windows = sums[down:, across:] - sums[:-down, across:] - sums[down:, :-across]
    windows = windows + sums[:-down, :-across]
    row, column = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(row) * COARSE_PX, int(column) * COARSE_PX
