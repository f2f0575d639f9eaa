"""TIFF files: what Pillow would read as 8 bits, and writing them strip by strip."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging.soundness import tiff_is_whole
from passionsr_cli.metadata import tiff_tags
from passionsr_cli.metadata.kinds import UPRIGHT, Metadata

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Offsets have 32 bits; the rest is for what deflating may add, and metadata.
LARGEST_CLASSIC_BYTES = 2**32 - 2**26
MINISWHITE, MINISBLACK, RGB, SEPARATED = 0, 1, 2, 5
COLOURS = {MINISWHITE: 1, MINISBLACK: 1, RGB: 3, SEPARATED: 4}
# Four inks, opacity, and a few that are nobody's business.
MOST_SAMPLES = 8
UNSIGNED = 1
CONVERT = "convert to 8 or 16 bits of RGB or grey"
ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA = 1, 2
ZLIB_LEVEL = 4


class DeepPixels:
    """Pixels (H, W, C) that Pillow would not read as they are, and what the file says of them."""

    def __init__(self, page: Any) -> None:
        self.pixels = _as_rows(page)
        self.white = 2**page.bitspersample - 1
        self.depth = 8 if page.bitspersample == 8 else 16
        self.inks = page.photometric == SEPARATED
        self.colours = COLOURS[page.photometric]
        if page.photometric == MINISWHITE:
            self.pixels = self.white - self.pixels
        extra = page.extrasamples[0] if page.extrasamples else None
        self.has_alpha = extra in (ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA)
        self.premultiplied = extra == ASSOCIATED_ALPHA
        orientation = page.tags.get(274)
        self.orientation = int(orientation.value) if orientation else UPRIGHT


def read_deep(path: Path, largest_px: int) -> DeepPixels | None:
    """The pixels of a TIFF of 8 to 16 bits per channel; None where Pillow reads all there is.

    Raises `ImageError` for kinds of pixels that cannot be read, several pages (reduced copies of
    the first aside), and more than `largest_px` pixels.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        others: list[Any] = list(file.pages[1:])
        pages = 1 + sum(not other.is_reduced for other in others)
        if pages > 1:
            raise ImageError(f"{path}: {pages} pages; save the one to upscale as a file")
        check_size(path, page.imagewidth, page.imagelength, largest_px)
        if not tiff_is_whole(page, path.stat().st_size):
            raise ImageError(f"{path}: damaged: rows of it are missing")
        if page.imagedepth != 1 or page.samplesperpixel > MOST_SAMPLES:
            raise ImageError(f"{path}: {page.samplesperpixel} channels; {CONVERT}")
        if page.bitspersample < 8 or (page.bitspersample == 8 and _pillow_reads(path)):
            return None
        if page.sampleformat != UNSIGNED or page.bitspersample > 16:
            raise ImageError(f"{path}: {page.dtype} pixels have no defined white; {CONVERT}")
        thin_inks = page.photometric == SEPARATED and page.bitspersample not in (8, 16)
        if page.photometric not in COLOURS or thin_inks:
            raise ImageError(
                f"{path}: {page.bitspersample}-bit {page.photometric.name} pixels; {CONVERT}"
            )
        return DeepPixels(page)


def _pillow_reads(path: Path) -> bool:
    """It knows neither big-endian BigTIFF nor inks with alpha nor every compression."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["TIFF"]):
            return True
    except (UnidentifiedImageError, struct.error):
        return False


def check_size(path: Path, width: int, height: int, largest_px: int) -> None:
    """Refuse an image of more than `largest_px` pixels."""
    if width * height > largest_px:
        raise ImageError(
            f"{path}: too large ({width}×{height} px; "
            f"here at most {largest_px / 1e6:.1f} megapixels can be upscaled)"
        )


def _as_rows(page: Any) -> npt.NDArray[np.unsignedinteger[Any]]:
    pixels = np.asarray(page.asarray())
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.ndim == 3 and page.axes.startswith("S"):
        return pixels.transpose(1, 2, 0)
    if pixels.ndim == 3:
        return pixels
    raise ValueError(f"pixels with the axes {page.axes}; a photograph has rows and columns")


def write(
    path: Path,
    shape: tuple[int, int, int],
    depth: int,
    metadata: Metadata,
    strips: Iterator[npt.NDArray[Any]],
    strip_px: int,
) -> None:
    """A TIFF of `shape` (H, W, C) from strips of `strip_px` rows, C 1 … 4 with alpha last.

    Deflated with horizontal differencing; BigTIFF where 4 GB may not do.
    """
    import tifffile

    height, width, channels = shape
    big = height * width * channels * depth // 8 > LARGEST_CLASSIC_BYTES
    tags, directories = tiff_tags.spread(metadata, big)
    with tifffile.TiffWriter(path, bigtiff=big) as file:
        file.write(
            (_deflated(strip) for strip in strips),
            shape=shape if channels > 1 else shape[:2],
            dtype=f"<u{depth // 8}",
            photometric="rgb" if channels > 2 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            compression="zlib",
            predictor=True,
            rowsperstrip=strip_px,
            iccprofile=metadata.icc_profile,
            resolution=metadata.resolution,
            resolutionunit="inch" if metadata.resolution else None,
            metadata=None,
            software=False,
            extratags=tags,
        )
    tiff_tags.append(path, directories, big)


def _deflated(strip: npt.NDArray[Any]) -> bytes:
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return zlib.compress(differences.astype(strip.dtype.newbyteorder("<")).tobytes(), ZLIB_LEVEL)
