"""Pictures as arrays: float32, (C, H, W), in [0, 1] unless said otherwise."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Level = TypeVar("Level", bound=np.generic)


def rounded_levels(image: Array, white: int = 255) -> npt.NDArray[np.uint8]:
    """The integers of an image of 8 bits, half to even, clipped to what there is."""
    # In place: images are large.
    levels = image * np.float32(white)
    np.rint(levels, out=levels).clip(0, white, out=levels)
    return levels.astype(np.uint8)


def fused_add(total: Array | float, values: Array, weights: Array | float) -> Array:
    """`total + values · weights`, rounded once to float32 as a fused multiply-add is.

    Sums are then the same to the last bit as those of libraries whose kernels use it.
    """
    products = values.astype(np.float64) * weights
    return (products + total).astype(np.float32)


def turn_upright(pixels: npt.NDArray[Level], orientation: int) -> npt.NDArray[Level]:
    """Pixels (H, W, C) of a file as they are to be seen (EXIF 2.3, tag 0x0112); a view."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # What remains is mirroring, as seen after rows and columns changed places.
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
