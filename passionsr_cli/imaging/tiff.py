"""TIFF files: what Pillow would read as 8 bits, and writing them strip by strip."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
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
MINISWHITE, MINISBLACK, RGB, SEPARATED, CIELAB, ICCLAB = 0, 1, 2, 5, 8, 9
COLOURS = {MINISWHITE: 1, MINISBLACK: 1, RGB: 3, SEPARATED: 4, CIELAB: 3, ICCLAB: 3}
LAB = (CIELAB, ICCLAB)
# Of these a value means the same at 8 and 16 bits alone.
WHOLE_BYTES = (SEPARATED, *LAB)
# What Pillow decodes, however it was built: none, fax, LZW, JPEG, deflate, PackBits.
PILLOWS_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)
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
        self.photometric = int(page.photometric)
        self.colours = COLOURS[page.photometric]
        if page.photometric == MINISWHITE:
            self.pixels = self.white - self.pixels
        extra = page.extrasamples[0] if page.extrasamples else None
        self.has_alpha = extra in (ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA)
        self.premultiplied = extra == ASSOCIATED_ALPHA
        orientation = page.tags.get(274)
        self.orientation = int(orientation.value) if orientation else UPRIGHT

    @property
    def lab(self) -> npt.NDArray[np.float32]:
        """CIE 1976 L* in [0, 100], a* and b* (H, W, 3) of pixels that are it (TIFF 6, section 23;
        Adobe's technical notes on TIFF of 2002 for ICC's encoding)."""
        values = self.pixels[..., :3].astype(np.float32)
        unit = 256 if self.depth == 16 else 1
        if self.photometric == ICCLAB:
            # One more than the largest L* would be in its upper byte.
            largest, offset = 255 * unit, 128
        else:
            largest, offset = self.white, 0
            values[..., 1:] -= (values[..., 1:] > self.white // 2) * np.float32(self.white + 1)
        values[..., 0] *= 100 / largest
        values[..., 1:] = values[..., 1:] / unit - offset
        return values


@dataclass(frozen=True)
class Photograph:
    """Which directory of a TIFF is the photograph, where it begins, and its pixels.

    `deep` is None where Pillow reads them as they are.
    """

    number: int
    place: int
    deep: DeepPixels | None


def find_photograph(path: Path, largest_px: int) -> Photograph:
    """The photograph of a TIFF of 8 to 16 bits per channel.

    Raises `ImageError` for kinds of pixels that cannot be read, several pages (reduced copies,
    before or behind, aside), and more than `largest_px` pixels.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        every: list[Any] = list(file.pages)
        pages = [number for number, page in enumerate(every) if not page.is_reduced]
        if len(pages) > 1:
            raise ImageError(f"{path}: {len(pages)} pages; save the one to upscale as a file")
        number = pages[0] if pages else 0
        page = every[number]
        check_size(path, page.imagewidth, page.imagelength, largest_px)
        if page.imagedepth != 1 or page.samplesperpixel > MOST_SAMPLES:
            raise ImageError(f"{path}: {page.samplesperpixel} channels; {CONVERT}")
        if not isinstance(page.bitspersample, int):
            raise ImageError(f"{path}: channels of different numbers of bits; {CONVERT}")
        if not tiff_is_whole(page, path.stat().st_size):
            raise ImageError(f"{path}: damaged: rows of it are missing")
        if page.bitspersample < 8 or (page.bitspersample == 8 and _pillow_reads(path, page)):
            return Photograph(number, page.offset, None)
        if page.sampleformat != UNSIGNED or page.bitspersample > 16:
            raise ImageError(f"{path}: {page.dtype} pixels have no defined white; {CONVERT}")
        thin = page.photometric in WHOLE_BYTES and page.bitspersample not in (8, 16)
        if page.photometric not in COLOURS or thin:
            raise ImageError(
                f"{path}: {page.bitspersample}-bit {page.photometric.name} pixels; {CONVERT}"
            )
        return Photograph(number, page.offset, DeepPixels(page))


def _pillow_reads(path: Path, page: Any) -> bool:
    """It knows neither big-endian BigTIFF nor inks with alpha nor every compression; of Lab its
    colours are rough."""
    from PIL import Image, UnidentifiedImageError

    if page.compression not in PILLOWS_COMPRESSIONS or page.photometric in LAB:
        return False
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
