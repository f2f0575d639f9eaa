"""Regions of an enlarged image, each made by itself."""

from __future__ import annotations

from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.resampling import bicubic

# The bicubic kernel reaches two pixels; one more for safety in rounding.
BICUBIC_CONTEXT_PX = 3


def times(region: slice, factor: int) -> slice:
    """The same region of what is so many times as large."""
    return slice(region.start * factor, region.stop * factor)


def divided(region: slice, divisor: int) -> slice:
    """The same region of what is so many times as small."""
    return slice(region.start // divisor, region.stop // divisor)


def upscaled_region(lr: Array, factor: int, rows: slice, columns: slice) -> Array:
    """One region of a bicubic upscale of the whole `lr` (3, h, w).

    Clamped to [0, 1]: what a model was trained on came from files.
    """
    return bicubic_region(lr, factor, rows, columns).clip(0, 1)


def repeated_region(lr: Array, factor: int, rows: slice, columns: slice) -> Array:
    """One region of `lr` (3, h, w) with each pixel repeated; it begins and ends between pixels."""
    rows, columns = divided(rows, factor), divided(columns, factor)
    return lr[:, rows, columns].repeat(factor, axis=1).repeat(factor, axis=2)


def bicubic_region(lr: Array, factor: int, rows: slice, columns: slice) -> Array:
    """The same, unclamped."""
    top, bottom, above = _with_context(rows, factor, lr.shape[-2])
    left, right, before = _with_context(columns, factor, lr.shape[-1])
    part = lr[:, top:bottom, left:right]
    size = (part.shape[-2] * factor, part.shape[-1] * factor)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return bicubic(part, size)[:, above : above + height, before : before + width]


def _with_context(region: slice, factor: int, lr_length: int) -> tuple[int, int, int]:
    """LR start and stop of an upscaled region with context, and where the region begins there."""
    start = max(0, region.start // factor - BICUBIC_CONTEXT_PX)
    stop = min(lr_length, region.stop // factor + BICUBIC_CONTEXT_PX)
    return start, stop, region.start - start * factor
