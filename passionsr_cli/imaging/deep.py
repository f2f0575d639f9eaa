"""Pixels of more than 8 bits per channel, of PNG, HEIC and AVIF, of which Pillow reads 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from passionsr_cli.imaging import heif
from passionsr_cli.metadata import av1_sizes

# Where a PNG says its depth.
PNG_DEPTH_AT = 24


def read_deep(path: Path, image: Image.Image) -> npt.NDArray[np.float32] | None:
    """Pixels (H, W, C) in [0, 1], as the file of an `image` has them; None for one of 8 bits."""
    if image.format == "PNG" and png_depth(path) == 16:
        return scaled(_levels(path, "png_decode"), 2**16 - 1)
    if image.format == "HEIF" and (depth := image.info["bit_depth"]) > 8:
        return scaled(heif.deep_levels(path), 2**depth - 1)
    if image.format == "AVIF" and (depth := av1_sizes.depth(path.read_bytes())) > 8:
        # Boxes may say less than there is.
        return scaled(_levels(path, "avif_decode"), 2**depth - 1).clip(0, 1)
    return None


def png_depth(path: Path) -> int:
    """Bits of a channel, or of a number in a palette."""
    with path.open("rb") as file:
        return file.read(PNG_DEPTH_AT + 1)[PNG_DEPTH_AT]


def _levels(path: Path, decoder: str) -> npt.NDArray[Any]:
    import imagecodecs

    return np.asarray(getattr(imagecodecs, decoder)(path.read_bytes()))


def scaled(values: npt.NDArray[Any], white: int) -> npt.NDArray[np.float32]:
    """Integers (H, W) or (H, W, C) as pixels (H, W, C) whose white is 1.0."""
    levels = values.astype(np.float32)
    levels /= white
    return levels if levels.ndim == 3 else levels[..., None]
