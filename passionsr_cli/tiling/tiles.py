"""Cutting a large plane into overlapping tiles and blending it together again.

Each axis is planned on its own; the blending weight of a tile is the product of its two axes'
windows. Windows add up to one everywhere, so a single tile's weight is exactly one.

Group normalization takes its statistics from each tile. With their own, tiles of 512 pixels come to
48 to 51 dB of the untiled image, with those of the whole image to 58 to 65; but to have these, one
needs the untiled image. Estimated from the image at half its size, they come to 47 to 52 dB, on one
of three scenes worse than without (tests/quality/tile_statistics.py). So tiles keep their own, and
overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from passionsr_cli.pixels.arrays import Array

# The outermost quarter of an overlap has seen the least context and is not used at all.
UNUSED_SHARE = 0.25


@dataclass(frozen=True)
class Axis:
    """Tiles of one axis: where they begin, how long they are, and their blending windows."""

    starts: tuple[int, ...]
    length: int
    windows: tuple[Array, ...]


def plan_axis(length: int, tile: int, overlap: int, unit: int) -> Axis:
    """Equal tiles that cover `length` evenly, overlapping by at least about `overlap`.

    All arguments are in the same pixels; `length`, `tile` and every start are multiples of
    `unit`. `tile` ≥ `length` gives one tile.
    """
    if tile >= length:
        return _with_windows((0,), length, length, overlap)
    stride = max(unit, tile - overlap)
    count = -(-(length - tile) // stride) + 1
    spread = (length - tile) / (count - 1)
    starts = (*(int(i * spread / unit) * unit for i in range(count - 1)), length - tile)
    return _with_windows(starts, tile, length, overlap)


def scaled(axis: Axis, overlap: int, divisor: int) -> Axis:
    """The same plan on a plane that is `divisor` times smaller (the latents of an image)."""
    starts = tuple(start // divisor for start in axis.starts)
    tile = axis.length // divisor
    return _with_windows(starts, tile, starts[-1] + tile, overlap // divisor)


def _with_windows(starts: tuple[int, ...], tile: int, length: int, overlap: int) -> Axis:
    total = np.zeros(length)
    raised = []
    for start in starts:
        ramp = _ramp(tile, overlap)
        rising = np.ones_like(ramp) if start == 0 else ramp
        falling = np.ones_like(ramp) if start + tile == length else ramp[::-1]
        raised.append(np.minimum(rising, falling))
        total[start : start + tile] += raised[-1]
    windows = tuple(
        (window / total[start : start + tile]).astype(np.float32)
        for start, window in zip(starts, raised, strict=True)
    )
    return Axis(starts, tile, windows)


def _ramp(tile: int, overlap: int) -> npt.NDArray[np.float64]:
    """0 near the start of a tile, rising smoothly to 1 across the overlap."""
    unused = UNUSED_SHARE * overlap
    rise = max(1.0, overlap - 2 * unused)
    position = np.arange(tile) + 0.5
    t = ((position - unused) / rise).clip(0, 1)
    # Never quite zero, so that rounded tile positions cannot leave a gap.
    ramp: npt.NDArray[np.float64] = np.maximum(t * t * (3 - 2 * t), 1e-6)
    return ramp


@dataclass(frozen=True)
class Tile:
    """One rectangle of a plane."""

    rows: slice
    columns: slice


def _tiles(rows: Axis, columns: Axis) -> Iterator[Tile]:
    """Row after row, from left to right."""
    for top in rows.starts:
        for left in columns.starts:
            yield Tile(slice(top, top + rows.length), slice(left, left + columns.length))


def blended_strips(
    rows: Axis, columns: Axis, channels: int, run: Callable[[Iterator[Tile]], Iterator[Array]]
) -> Iterator[Array]:
    """The plane (channels, height, width) that is blended from its tiles, in strips of rows from
    top to bottom, each as soon as no tile to come touches it.

    `run` gives, for all tiles in order, what each shows (channels, height, width); it may begin
    with the next row while the last is blended. No more than a row of results is held in memory.
    """
    contents = run(_tiles(rows, columns))
    if len(rows.starts) == len(columns.starts) == 1:
        # Its weight is one.
        yield from contents
        return
    width = columns.starts[-1] + columns.length
    ends = (*rows.starts[1:], rows.starts[-1] + rows.length)
    pending = np.zeros((channels, rows.length, width), np.float32)
    for top, end, down in zip(rows.starts, ends, rows.windows, strict=True):
        for left, across in zip(columns.starts, columns.windows, strict=True):
            weight = down[:, None] * across[None, :]
            pending[:, :, left : left + columns.length] += next(contents) * weight
        finished = end - top
        yield pending[:, :finished]
        empty = np.zeros((channels, finished, width), np.float32)
        pending = np.concatenate([pending[:, finished:], empty], 1)
