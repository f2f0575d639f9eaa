"""Real photographs that are always at hand: those in scikit-image's wheel (all free to use)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from passionsr_cli.errors import ImageError
from passionsr_cli.pixels.arrays import Array, rounded_levels
from passionsr_cli.pixels.resampling import bicubic
from passionsr_cli.system.text import suggestion

PREFIX = "sample:"
NAMES = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "motorcycle_left", "rocket")
SHRINK_FACTOR = 4


def is_sample(source: str | Path) -> bool:
    """Tell whether an input names a sample instead of a file."""
    return str(source).startswith(PREFIX)


def check(source: str) -> None:
    """Refuse a sample that does not exist."""
    name = source.removeprefix(PREFIX)
    if name not in NAMES:
        raise ImageError(f"{source}: unknown sample{suggestion(name, NAMES)}")


def high_resolution(source: str) -> Array:
    """The photograph of `sample:NAME` as (3, H, W) in [0, 1], cropped to multiples of 4."""
    from PIL import Image

    check(source)
    name = source.removeprefix(PREFIX)
    files = sorted(path for folder in _folders() for path in folder.glob(f"{name}.*"))
    images = [path for path in files if path.suffix in (".png", ".jpg")]
    if not images:
        raise ImageError(
            f"{source}: scikit-image's photographs are missing; reinstall scikit-image"
        )
    pixels = np.asarray(Image.open(images[0]))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    height, width = (side - side % SHRINK_FACTOR for side in pixels.shape[:2])
    image = pixels[:height, :width, :3].transpose(2, 0, 1).astype(np.float32)
    return np.ascontiguousarray(image / np.float32(255))


def low_resolution(source: str) -> Array:
    """The same photograph at a quarter of its size (bicubic, antialiased), 8 bits deep."""
    image = high_resolution(source)
    size = (image.shape[1] // SHRINK_FACTOR, image.shape[2] // SHRINK_FACTOR)
    return rounded_levels(bicubic(image, size)).astype(np.float32) / np.float32(255)


def _folders() -> list[Path]:
    """Folder of scikit-image's photographs, found without importing it."""
    found = importlib.util.find_spec("skimage")
    places = (found and found.submodule_search_locations) or []
    return [Path(place) / "data" for place in places]
