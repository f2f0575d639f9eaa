"""TIFF files: what Pillow would read as 8 bits, and writing them strip by strip."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging import tiff_colours
from passionsr_cli.imaging.soundness import UNCOMPRESSED, tiff_is_whole
from passionsr_cli.imaging.tiff_colours import LAB, YCBCR, DeepPixels
from passionsr_cli.metadata import tiff_tags
from passionsr_cli.metadata.kinds import LYING, Metadata

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Offsets have 32 bits; the rest is for what deflating may add, and metadata.
LARGEST_CLASSIC_BYTES = 2**32 - 2**26
# What Pillow decodes, however it was built: none, fax, LZW, JPEG, deflate, PackBits.
PILLOWS_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)
# Four inks, opacity, and a few that are nobody's business.
MOST_SAMPLES = 8
UNSIGNED, SEPARATE_PLANES = 1, 2
CONVERT = "convert to 8 or 16 bits of RGB or grey"
ZLIB_LEVEL = 4


@dataclass(frozen=True)
class Photograph:
    """The directory of a TIFF that holds the photograph, its place and its pixels.

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
    with _opened(path) as file:
        number, page = _photographs_page(path, file)
        check_size(path, page.imagewidth, page.imagelength, largest_px)
        if page.imagedepth != 1 or page.samplesperpixel > MOST_SAMPLES:
            raise ImageError(f"{path}: {page.samplesperpixel} channels; {CONVERT}")
        if not isinstance(page.bitspersample, int):
            raise ImageError(f"{path}: channels of different numbers of bits; {CONVERT}")
        if page.compression == UNCOMPRESSED and tiff_colours.is_subsampled(page):
            raise ImageError(f"{path}: {tiff_colours.refusal(page)}; {CONVERT}")
        if not tiff_is_whole(page, path.stat().st_size):
            raise ImageError(f"{path}: damaged: rows of it are missing")
        if page.bitspersample <= 8 and _pillow_reads(path, page):
            return Photograph(number, page.offset, None)
        if page.sampleformat != UNSIGNED or page.bitspersample > 16:
            raise ImageError(f"{path}: {page.dtype} pixels have no defined white; {CONVERT}")
        if reason := tiff_colours.refusal(page):
            raise ImageError(f"{path}: {reason}; {CONVERT}")
        return Photograph(number, page.offset, DeepPixels(page))


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of a TIFF's photograph as it is to be seen, from its directory alone."""
    with _opened(path) as file:
        _, page = _photographs_page(path, file)
        orientation = page.tags.get(tiff_colours.ORIENTATION)
        size = int(page.imagewidth), int(page.imagelength)
        return size[::-1] if orientation and orientation.value >= LYING else size


def _opened(path: Path) -> AbstractContextManager[Any]:
    import tifffile

    if not tiff_tags.come_to_an_end(path):
        raise ImageError(f"{path}: damaged: its directories lead back to themselves")
    file: AbstractContextManager[Any] = tifffile.TiffFile(path)
    return file


def _photographs_page(path: Path, file: Any) -> tuple[int, Any]:
    """The number and the page of the photograph, the only one but for reduced copies."""
    every: list[Any] = list(file.pages)
    if not every:
        raise ImageError(f"{path}: damaged: its first directory does not lie in it")
    pages = [number for number, page in enumerate(every) if not page.is_reduced]
    if len(pages) > 1:
        raise ImageError(f"{path}: {len(pages)} pages; save the one to upscale as a file")
    number = pages[0] if pages else 0
    return number, every[number]


def _pillow_reads(path: Path, page: Any) -> bool:
    """It knows neither big-endian BigTIFF nor inks with alpha nor every compression; it cannot
    read all planes, and takes those of YCbCr for pixels; of Lab and YCbCr its colours are rough."""
    from PIL import Image, UnidentifiedImageError

    if page.compression not in PILLOWS_COMPRESSIONS or page.photometric in LAB:
        return False
    if page.planarconfig == SEPARATE_PLANES or tiff_colours.has_narrow_palette(page):
        return False
    if page.photometric == YCBCR and not tiff_colours.refusal(page):
        return page.compression in tiff_colours.JPEGS
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
