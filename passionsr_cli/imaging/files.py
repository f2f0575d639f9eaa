"""Image files to tensors and back."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from passionsr_cli.atomic import replace_atomically
from passionsr_cli.errors import ImageError, OutputError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.resampling import lanczos

IMAGE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".avif",
    ".ppm",
)
OUTPUT_FORMATS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_deflate"},
    ".tiff": {"compression": "tiff_deflate"},
    ".bmp": {},
}
BAND_PX = 512
NO_ALPHA = (".jpg", ".jpeg", ".bmp")
GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class Picture:
    """An image apart from its file.

    `rgb` is (3, H, W) float32 in [0, 1], `alpha` (1, H, W) likewise or None. `grey` says that
    the file held no colour, so that none is written back. `icc_profile` is kept for RGB and
    grey files alone: a CMYK profile does not describe RGB values.
    """

    rgb: Tensor
    alpha: Tensor | None = None
    grey: bool = False
    icc_profile: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.rgb.shape[-1]), int(self.rgb.shape[-2])


def read_picture(source: str | Path) -> Picture:
    """The image of a file, or of `sample:NAME`, upright as its EXIF orientation says."""
    if samples.is_sample(source):
        return Picture(samples.low_resolution(str(source)))
    try:
        with Image.open(source) as image:
            image.load()
            return _to_picture(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise ImageError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{source}: a folder, expected an image file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{source}: not an image file that can be read") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{source}: too large to be opened safely") from None
    except Exception as error:
        # Decoders fail in more ways on damaged files than their documentation names.
        raise ImageError(f"{source}: damaged or unreadable ({error})") from None


def read_rgb(path: Path) -> Tensor:
    """A photograph as (3, H, W) uint8, for training: any transparency is dropped."""
    return (read_picture(path).rgb * 255).round().to(torch.uint8)


def _to_picture(image: Image.Image) -> Picture:
    profile = image.info.get("icc_profile")
    grey = image.mode in GREY_MODES
    transparent = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
    keep_profile = profile if image.mode in ("RGB", "RGBA", "L", "LA") else None
    if image.mode in ("I", "I;16", "I;16B", "I;16L"):
        # Pillow's own conversion clips 16-bit grey at 255.
        levels = torch.from_numpy(np.asarray(image).astype(np.float32) / 65535).clamp(0, 1)
        return Picture(levels.expand(3, -1, -1).contiguous(), None, True, keep_profile)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white; convert to 8 or 16 bits")
    if transparent:
        values = _to_tensor(image.convert("RGBA"))
        return Picture(values[:3].contiguous(), values[3:].contiguous(), grey, keep_profile)
    return Picture(_to_tensor(image.convert("RGB")), None, grey, keep_profile)


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def check_output(path: Path, picture_has_alpha: bool = False) -> None:
    """Refuse, before any work, an output format that cannot hold the picture."""
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        known = ", ".join(OUTPUT_FORMATS)
        raise OutputError(
            f"{path}: cannot write '{suffix or 'no suffix'}' files; use one of {known}"
        )
    if picture_has_alpha and suffix in NO_ALPHA:
        raise OutputError(f"{path}: {suffix} holds no transparency, the input has it; use .png")


def write_picture(path: Path, picture: Picture) -> None:
    """Write 8 bits per channel; on any failure no half file remains."""
    check_output(path, picture.alpha is not None)
    pixels = _to_bytes(picture)
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    options = dict(OUTPUT_FORMATS[path.suffix.lower()])
    if picture.icc_profile:
        options["icc_profile"] = picture.icc_profile
    try:
        with replace_atomically(path) as temporary:
            image.save(temporary, **options)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(f"{path}: the disk is full; free space or give --output") from None
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None


def write_upscaled(
    path: Path,
    picture: Picture,
    strips: Iterable[Tensor],
    strips_size: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Write `picture` at `size` (width, height), its colours from `strips` (3, h, w)."""
    rgb = torch.cat(list(strips), 1)
    alpha = None if picture.alpha is None else lanczos(picture.alpha, size[::-1]).clamp(0, 1)
    write_picture(path, replace(picture, rgb=rgb, alpha=alpha))


def _to_bytes(picture: Picture) -> npt.NDArray[np.uint8]:
    """The picture as (H, W, channels) bytes, made in bands: a large image is not held twice."""
    width, height = picture.size
    channels = (1 if picture.grey else 3) + (picture.alpha is not None)
    pixels = np.empty((height, width, channels), np.uint8)
    for top in range(0, height, BAND_PX):
        rows = slice(top, top + BAND_PX)
        planes = [_luma(picture.rgb[:, rows]) if picture.grey else picture.rgb[:, rows]]
        if picture.alpha is not None:
            planes.append(picture.alpha[:, rows])
        band = (torch.cat(planes) * 255).round().clamp(0, 255).to(torch.uint8)
        pixels[rows] = band.permute(1, 2, 0).numpy()
    return pixels


def _luma(rgb: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (rgb * weights).sum(0, keepdim=True)
