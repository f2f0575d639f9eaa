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
from passionsr_cli.imaging.metadata import EXIF_PREFIX, UPRIGHT, Metadata
from passionsr_cli.imaging.soundness import tiff_is_whole

BIG_ENDIAN_BIG_MAGIC = b"MM\0+"
BIG_MAGIC = (b"II+\0", BIG_ENDIAN_BIG_MAGIC)
MAGIC = (b"II*\0", b"MM\0*", *BIG_MAGIC)
EXIF_IFD, GPS_IFD, INTEROP_IFD, ICC_TAG, XMP_TAG = 0x8769, 0x8825, 0xA005, 34675, 700
BYTE, ASCII, LONG, LONG8 = 1, 2, 4, 16
# Offsets have 32 bits; the rest is for what deflating may add, and metadata.
LARGEST_CLASSIC_BYTES = 2**32 - 2**26
# Of the first directory, what describes the photograph and not how the file is laid out.
DESCRIPTION = 270
DESCRIPTIVE_TAGS = (DESCRIPTION, 271, 272, 305, 306, 315, 316, 18246, 33432, *range(40091, 40096))
# What tifffile writes there is about the file it writes.
TIFFFILE_SHAPE = '{"shape":'
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


def read_metadata(path: Path) -> Metadata:
    """Profile, EXIF and XMP of a TIFF; its EXIF, which is spread over tags, as one block."""
    from PIL import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    exif = Image.Exif()
    with path.open("rb") as file:
        header = file.read(16)
        if header.startswith(BIG_ENDIAN_BIG_MAGIC):
            return _profiles(path)
        header = header if header[:4] in BIG_MAGIC else header[:8]
        first = ImageFileDirectory_v2(header)
        file.seek(first.next)
        first.load(file)
        values = {tag: _raw(first[tag]) for tag in DESCRIPTIVE_TAGS if tag in first}
        if str(values.get(DESCRIPTION, "")).startswith(TIFFFILE_SHAPE):
            del values[DESCRIPTION]
        exif.update(values)
        found = len(exif) > 0
        for tag in (EXIF_IFD, GPS_IFD):
            if isinstance(offset := first.get(tag), int):
                directory = ImageFileDirectory_v2(header, group=tag)
                file.seek(offset)
                directory.load(file)
                # This one would point into the file that it came from.
                entries = {
                    key: _raw(value) for key, value in directory.items() if key != INTEROP_IFD
                }
                exif.get_ifd(tag).update(entries)
                found = found or bool(entries)
    block = exif.tobytes().removeprefix(EXIF_PREFIX) if found else None
    return Metadata(_bytes(first.get(ICC_TAG)), block, _bytes(first.get(XMP_TAG)))


def _profiles(path: Path) -> Metadata:
    """Profile and XMP alone, where Pillow cannot read the directories of EXIF."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        icc, xmp = page.tags.get(ICC_TAG), page.tags.get(XMP_TAG)
        return Metadata(_bytes(icc and icc.value), None, _bytes(xmp and xmp.value))


def _raw(value: Any) -> Any:
    """Text as the bytes that were in the file: Pillow reads Latin-1, and writes ASCII alone."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def _bytes(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None


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
    tags, directories = _exif_tags(metadata)
    if metadata.xmp:
        tags.append((XMP_TAG, BYTE, len(metadata.xmp), metadata.xmp, True))
    tags += [(tag - 1, LONG8 if big else LONG, 1, 0, True) for tag in directories]
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
            metadata=None,
            software=False,
            extratags=tags,
        )
    _append(path, directories, big)


def _deflated(strip: npt.NDArray[Any]) -> bytes:
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return zlib.compress(differences.astype(strip.dtype.newbyteorder("<")).tobytes(), ZLIB_LEVEL)


def _exif_tags(metadata: Metadata) -> tuple[list[Any], dict[int, Any]]:
    """EXIF as tags of the first directory, and the directories that hang on it."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(EXIF_PREFIX + (metadata.exif or b""))
        ifds = {tag: dict(exif.get_ifd(tag)) for tag in (EXIF_IFD, GPS_IFD)}
        found = {tag: exif[tag] for tag in DESCRIPTIVE_TAGS if tag in exif}
    except Exception:
        # TIFF has no place for a block that is damaged.
        return [], {}
    tags: list[Any] = []
    for tag, value in found.items():
        if isinstance(value, str):
            encoded = value.encode("latin-1") + b"\0"
            tags.append((tag, ASCII, len(encoded), encoded, True))
        elif isinstance(value, bytes):
            tags.append((tag, BYTE, len(value), value, True))
    return tags, {tag: entries for tag, entries in ifds.items() if entries}


def _append(path: Path, directories: dict[int, Any], big: bool) -> None:
    """Put directories at the end of a file, where their tags of the first one then point.

    tifffile writes no such tags; `write` has left room under the numbers before theirs.
    """
    import tifffile
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if not directories:
        return
    with tifffile.TiffFile(path) as file:
        tags: Any = file.pages[0].tags  # type: ignore[union-attr]
        places = {tag: (tags[tag - 1].offset, tags[tag - 1].valueoffset) for tag in directories}
    with path.open("r+b") as out:
        for tag, entries in directories.items():
            header = b"II+\0" + bytes(12) if big else b"II*\0" + bytes(4)
            directory = ImageFileDirectory_v2(header, group=tag)
            for key, value in entries.items():
                directory[key] = _raw(value)
            offset = (out.seek(0, 2) + 1) // 2 * 2
            out.seek(offset)
            out.write(directory.tobytes(offset))
            entry, value_at = places[tag]
            out.seek(entry)
            out.write(struct.pack("<H", tag))
            out.seek(value_at)
            out.write(struct.pack("<Q" if big else "<I", offset))
