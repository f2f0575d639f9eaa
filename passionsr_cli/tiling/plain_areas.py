"""Areas of one colour, and even gradients: there is nothing to restore, and the result is the
input, enlarged.

A network answers even these with a pattern of its own, a few levels high, which shows on scanned
paper, skies, screenshots and drawings; on a steep gradient one tile differs from the next.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.resampling import REACH_PX, resample_rows, resampled_rows, source_span

# Differences up to one level of 8 bits are a smooth gradient's, from two on there may be texture.
LEVEL = np.float32(1 / 255)


def plainness(image: Array, reach_px: int) -> Array:
    """Map (1, h, w) in [0, 1] of where an image (3, h, w) in [0, 1] is of one colour or a plane.

    1 where the pixels up to `reach_px` + 1 away in either direction differ by at most a level of 8
    bits, or their steps to the next pixel do along both axes, as a plane's do whose values are
    rounded; 0 where those of all windows beside it differ by two; in between along the borders.
    """
    down, across = (_spread(_steps(image, axis), reach_px) for axis in (1, 2))
    steps = np.maximum(down, across)
    spread = np.minimum(_spread(image, reach_px), steps)
    plain = (2 - spread[None] / LEVEL).clip(0, 1)
    return _over_windows(plain, 1, np.add) / np.float32(9)


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
        window = slice(max(0, first - reach_px - 1), last + reach_px + 2)
        share = plainness(lr[:, window], reach_px)[:, first - window.start :][:, : last - first]
        kept = resample_rows(share, first, lr_height, size, rows, "bicubic").clip(0, 1)
        if kept.any():
            colours = resampled_rows(lr, size, rows, "bicubic")
            strip = strip + kept * (colours - strip)
        yield strip


def _steps(image: Array, axis: int) -> Array:
    """Differences to the next pixel along an axis, the last one's those of the one before it."""
    if image.shape[axis] == 1:
        return np.zeros_like(image)
    steps = np.diff(image, axis=axis)
    return np.concatenate([steps, steps.take([-1], axis)], axis)


def _spread(image: Array, reach_px: int) -> Array:
    """By how much values up to `reach_px` away differ in an image (C, h, w), at most in any of its
    channels: (h, w)."""
    high, low = (_over_windows(image, reach_px, which) for which in (np.maximum, np.minimum))
    spread: Array = (high - low).max(0)
    return spread


def _over_windows(image: Array, reach_px: int, combine: np.ufunc) -> Array:
    """The maximum, minimum or sum of the values up to `reach_px` away, for each pixel of (C, h, w);
    its border repeats."""
    for axis in (1, 2):
        around = [(reach_px, reach_px) if each == axis else (0, 0) for each in range(3)]
        padded = np.moveaxis(np.pad(image, around, mode="edge"), axis, 0)
        length = image.shape[axis]
        combined = padded[:length].copy()
        for step in range(1, 2 * reach_px + 1):
            combine(combined, padded[step : step + length], out=combined)
        image = np.moveaxis(combined, 0, axis)
    return image
