"""Writing PNG files strip by strip (ISO/IEC 15948)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from passionsr_cli.metadata.kinds import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}
SUB, UP, AVERAGE = 1, 2, 3
# Level 6 takes three times as long for a twentieth of the size.
ZLIB_LEVEL = 4
XMP_KEYWORD = b"XML:com.adobe.xmp"
METRES_PER_INCH, PER_METRE = 0.0254, 1

Bytes = npt.NDArray[np.uint8]


def write(
    path: Path,
    shape: tuple[int, int, int],
    depth: int,
    metadata: Metadata,
    strips: Iterator[npt.NDArray[Any]],
) -> None:
    """A PNG of `shape` (H, W, C) and 8 or 16 bits from strips of rows, C 1 … 4 with alpha last."""
    height, width, channels = shape
    pixel_bytes = channels * depth // 8
    with path.open("wb") as file:
        file.write(SIGNATURE)
        header = struct.pack(">IIBBBBB", width, height, depth, COLOUR_TYPE[channels], 0, 0, 0)
        _chunk(file, b"IHDR", header)
        for kind, content in _metadata_chunks(metadata):
            _chunk(file, kind, content)
        deflate = zlib.compressobj(ZLIB_LEVEL)
        above = np.zeros(width * pixel_bytes, np.uint8)
        for strip in strips:
            rows = strip.astype(f">u{depth // 8}").reshape(len(strip), -1).view(np.uint8)
            _chunk(file, b"IDAT", deflate.compress(_filtered(rows, above, pixel_bytes)))
            above = rows[-1]
        _chunk(file, b"IDAT", deflate.flush())
        _chunk(file, b"IEND", b"")


def _chunk(file: IO[bytes], kind: bytes, content: bytes) -> None:
    check = zlib.crc32(content, zlib.crc32(kind))
    file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check))


def _metadata_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    if metadata.icc_profile:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)
    if metadata.resolution:
        across, down = (round(per_inch / METRES_PER_INCH) for per_inch in metadata.resolution)
        yield b"pHYs", struct.pack(">IIB", across, down, PER_METRE)
    if metadata.xmp:
        # Uncompressed, in no language: readers look for it so.
        yield b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp
    if metadata.exif:
        yield b"eXIf", metadata.exif


def _filtered(rows: Bytes, above: Bytes, pixel_bytes: int) -> bytes:
    """Each row as its differences to neighbours, by whichever filter leaves least (12.8).

    Of the five filters, none and Paeth are left out: photographs gain too little by them.
    """
    up = np.vstack([above[None], rows[:-1]])
    left = np.zeros_like(rows)
    left[:, pixel_bytes:] = rows[:, :-pixel_bytes]
    # The floor of the mean of two bytes, without leaving bytes.
    mean = (left & up) + ((left ^ up) >> 1)
    kinds = np.array([SUB, UP, AVERAGE], np.uint8)
    filtered = np.stack([rows - left, rows - up, rows - mean])
    remaining = np.minimum(filtered, 0 - filtered).sum(-1, dtype=np.int64)
    best = remaining.argmin(0)
    chosen = filtered[best, np.arange(len(rows))]
    return np.hstack([kinds[best][:, None], chosen]).tobytes()
