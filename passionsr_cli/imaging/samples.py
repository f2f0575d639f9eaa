"""Real photographs that are always at hand: those in scikit-image's wheel (all free to use)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging.resampling import bicubic

PREFIX = "sample:"
NAMES = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "motorcycle_left", "rocket")
SHRINK_FACTOR = 4


def is_sample(source: str | Path) -> bool:
    """Whether an input names a sample instead of a file."""
    return str(source).startswith(PREFIX)


def check(source: str) -> None:
    """Refuse a sample that does not exist."""
    if source.removeprefix(PREFIX) not in NAMES:
        raise ImageError(f"{source}: unknown sample; there are {', '.join(NAMES)}")


def high_resolution(source: str) -> Tensor:
    """The photograph of `sample:NAME` as (3, H, W) in [0, 1], cropped to multiples of 4."""
    from skimage import data
    from skimage.io import imread

    check(source)
    name = source.removeprefix(PREFIX)
    files = sorted(Path(data.__file__).parent.glob(f"{name}.*"))
    images = [path for path in files if path.suffix in (".png", ".jpg")]
    if not images:
        raise ImageError(
            f"{source}: scikit-image's photographs are missing; reinstall scikit-image"
        )
    pixels = np.asarray(imread(images[0]))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    image = torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1).float() / 255
    height, width = (side - side % SHRINK_FACTOR for side in image.shape[1:])
    return image[:, :height, :width].contiguous()


def low_resolution(source: str) -> Tensor:
    """The same photograph at a quarter of its size (bicubic, antialiased), 8 bits deep."""
    image = high_resolution(source)
    size = (image.shape[1] // SHRINK_FACTOR, image.shape[2] // SHRINK_FACTOR)
    small = bicubic(image.unsqueeze(0), size).squeeze(0)
    return (small * 255).round().clamp(0, 255) / 255
