"""Resampling and padding of images."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from passionsr_cli.pixels.arrays import Array, fused_add

Kernel = Literal["bicubic", "lanczos"]
REACH_PX: dict[Kernel, float] = {"bicubic": 2, "lanczos": 3}
# As many rows at a time as a core's cache holds with their intermediates.
CACHED_ROWS = 32

Indices = npt.NDArray[np.int64]


def bicubic(image: Array, size: tuple[int, int]) -> Array:
    """Bicubic resampling of (..., H, W) to (height, width), as Pillow does it, unclamped.

    a = −0.5, antialiased; the same to the last bit as torch's `interpolate` with `antialias`,
    which the models were trained with.
    """
    return _resampled(_resampled(image, size[1], -1), size[0], -2)


def _resampled(image: Array, length: int, axis: int) -> Array:
    """An axis, -1 or -2, resampled to another length; as it is where it has that already."""
    if image.shape[axis] == length:
        return np.ascontiguousarray(image)
    first, count, weights = _bicubic_weights(image.shape[axis], length)
    if axis == -1:
        return _combined(image, first, count, weights, axis)
    parts = (slice(top, top + CACHED_ROWS) for top in range(0, length, CACHED_ROWS))
    strips = [_combined(image, first[p], count[p], weights[:, p, None], axis) for p in parts]
    return np.concatenate(strips, -2)


def _combined(image: Array, first: Indices, count: Indices, weights: Array, axis: int) -> Array:
    """Weighted sums of the `count` values from each `first` on along an axis."""
    # What torch adds in vectors of four taps is rounded twice, the remaining taps are fused.
    in_vectors = (count - 1) // 4 * 4
    if axis == -2:
        in_vectors = in_vectors[:, None]
    result: Array = image.take(first, axis) * weights[0]
    for place in range(1, len(weights)):
        values = image.take(np.minimum(first + place, image.shape[axis] - 1), axis)
        fused = fused_add(result, values, weights[place])
        # Where an image grows there are no more than four taps.
        if place <= in_vectors.max():
            twice = result + values * weights[place]
            fused = np.where(place <= in_vectors, twice, fused)
        result = fused
    return result


@cache
def _bicubic_weights(source: int, length: int) -> tuple[Indices, Indices, Array]:
    """Kernels of a resampling: where each begins in the source, its taps, and their weights
    (most taps, length)."""
    scale = np.float32(source) / np.float32(length)
    stretch = max(float(scale), 1.0)
    support, shrink = np.float32(2 * stretch), np.float32(1 / stretch)
    center = (float(scale) * (np.arange(length) + 0.5)).astype(np.float32)
    first = ((center - support).astype(np.float64) + 0.5).astype(np.int64).clip(0)
    last = ((center + support).astype(np.float64) + 0.5).astype(np.int64).clip(max=source)
    count = last - first
    taps = np.arange(count.max())[:, None]
    distance = (taps + first).astype(np.float32) - center
    x = np.abs(((distance.astype(np.float64) + 0.5) * float(shrink)).astype(np.float32))
    near = fused_add(1.0, fused_add(-2.5, x, 1.5) * x, x)
    far = fused_add(2.0, fused_add(-4.0, fused_add(2.5, x, -0.5), x), x)
    values: Array = np.where(x < 1, near, np.where(x < 2, far, np.float32(0)))
    values[taps >= count] = 0
    total = np.zeros(length, np.float32)
    for tap in values:
        total += tap
    weights: Array = values / total
    return first, count, weights


def pad_mirroring(image: Array, height: int, width: int, before: int = 0) -> Array:
    """`image` (3, H, W) mirrored at its borders again and again: `before` pixels above and to the
    left, and as many below and to the right as make it `height` × `width`.

    The border pixels come twice, so that the mirror is where the image ends. One pixel further
    in, an upscaled image would be off by half a pixel there.
    """
    after = (height - before - image.shape[-2], width - before - image.shape[-1])
    return np.pad(image, ((0, 0), (before, after[0]), (before, after[1])), mode="symmetric")


def source_span(
    rows: tuple[int, int], height: int, source_height: int, reach: float
) -> tuple[int, int]:
    """The source rows that `rows` of an image of `height` rows are resampled from.

    `reach` is the kernel's half width in pixels of the coarser of the two images.
    """
    step = source_height / height
    context = reach * max(1.0, step) + 1
    first = max(0, math.floor(rows[0] * step - context))
    return first, min(source_height, math.ceil(rows[1] * step + context))


def resample_rows(
    window: Array,
    first: int,
    source_height: int,
    size: tuple[int, int],
    rows: tuple[int, int],
    kernel: Kernel,
) -> Array:
    """Rows of an image resampled to `size` (height, width) by Pillow, antialiased, unclamped.

    `window` (C, h, w) holds the source rows from `first` on that `source_span` names; what comes
    out is (C, rows, width), the same as from the whole source.
    """
    from PIL import Image

    step = source_height / size[0]
    box = (0, rows[0] * step - first, window.shape[-1], rows[1] * step - first)
    # Kernels end at the window, which has their context, and not at the box.
    box = (*box[:3], min(box[3], window.shape[-2]))
    planes = [
        np.asarray(
            Image.fromarray(plane).resize(
                (size[1], rows[1] - rows[0]), getattr(Image.Resampling, kernel.upper()), box
            )
        )
        for plane in np.ascontiguousarray(window)
    ]
    return np.stack(planes)


def resampled_rows(
    image: Array, size: tuple[int, int], rows: tuple[int, int], kernel: Kernel
) -> Array:
    """Rows of a whole image (C, h, w) resampled to `size` (height, width)."""
    height = image.shape[-2]
    first, last = source_span(rows, size[0], height, REACH_PX[kernel])
    return resample_rows(image[:, first:last], first, height, size, rows, kernel)
