"""Areas of one colour: there is nothing to restore, and the result is the input, enlarged.

A network answers even these with a pattern of its own, a few levels high, which shows on scanned
paper, skies, screenshots and drawings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.resampling import REACH_PX, resample_rows, resampled_rows, source_span

# Differences up to one level of 8 bits are a smooth gradient's, from two on there may be texture.
LEVEL = np.float32(1 / 255)


def plainness(image: Array, reach_px: int) -> Array:
    """Map (1, h, w) in [0, 1] of where an image (3, h, w) in [0, 1] is of one colour.

    1 where the pixels up to `reach_px` + 1 away in either direction differ by at most a level of 8
    bits, 0 where those of all windows beside it differ by two; in between along the borders.
    """
    spread = (_extreme(image, reach_px, np.maximum) - _extreme(image, reach_px, np.minimum)).max(0)
    plain = (2 - spread[None] / LEVEL).clip(0, 1)
    return _mean_of_nine(plain)


def with_plain_areas(
    strips: Iterator[Array], lr: Array, factor: int, reach_px: int
) -> Iterator[Array]:
    """An upscaled image in strips (3, rows, W), whose plain areas are those of `lr` (3, h, w)."""
    lr_height, lr_width = lr.shape[-2:]
    size = (lr_height * factor, lr_width * factor)
    below = 0
    for strip in strips:
        rows = (below, below + strip.shape[1])
        below = rows[1]
        first, last = source_span(rows, size[0], lr_height, REACH_PX["bicubic"])
        # With what its map depends on.
        window = slice(max(0, first - reach_px - 1), last + reach_px + 1)
        share = plainness(lr[:, window], reach_px)[:, first - window.start :][:, : last - first]
        kept = resample_rows(share, first, lr_height, size, rows, "bicubic").clip(0, 1)
        if kept.any():
            colours = resampled_rows(lr, size, rows, "bicubic")
            strip = strip + kept * (colours - strip)
        yield strip


def _extreme(image: Array, reach_px: int, which: np.ufunc) -> Array:
    """The largest or smallest value up to `reach_px` away, for each pixel of (C, h, w)."""
    for axis in (1, 2):
        image = which.reduce(_shifted(image, reach_px, axis))
    return image


def _mean_of_nine(image: Array) -> Array:
    for axis in (1, 2):
        image = np.mean(_shifted(image, 1, axis), 0, dtype=np.float32)
    return image


def _shifted(image: Array, reach_px: int, axis: int) -> list[Array]:
    """An image moved by each of −`reach_px` to `reach_px` along an axis; its border repeats."""
    around = [(reach_px, reach_px) if each == axis else (0, 0) for each in range(3)]
    padded = np.pad(image, around, mode="edge")
    length = image.shape[axis]
    steps = range(2 * reach_px + 1)
    return [padded.take(range(step, step + length), axis) for step in steps]
