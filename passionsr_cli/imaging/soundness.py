"""Files that cannot hold what their header says, found before any work is done for them.

Decoders fill with black or grey what is missing; a file that ends too early is damaged, not dark.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from passionsr_cli.metadata import av1_sizes, jpeg_segments, png_chunks

# Rows and columns at which each of Adam7's passes begins, and their steps (ISO/IEC 15948, 8.2).
ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Deflate makes at most 1032 bytes of one (zlib's manual).
MOST_INFLATION = 1032
# Codes of GIF have at most 12 bits, of which each value stands for fewer pixels than there are.
MOST_IN_GIF = 4096 * 8 // 12
BLOCK_BYTES = 1 << 20
JPEG_BLOCK_PX = 8
# Of ten thousand of them a second is spent on each megapixel.
MOST_JPEG_SCANS = 100
JPEG_FILLING = b"\x55" * 32
JPEG_ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {0xCC}
# Headers of frames (ITU-T T.81, table B.1): tables and a marker without meaning lie among them.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
UNCOMPRESSED = 1
JPEGS_IN_TIFF, JPEG_XR_IN_TIFF = (7, 33007, 34892), (22610, 34934)
# ITU-T T.832, A.7: where the pixels of a JPEG XR begin, and their bytes.
JPEG_XR_PLACE, JPEG_XR_BYTES = 0xBCC0, 0xBCC1
# Equal tiles may be written once; a few bytes that are a million tiles are an attack.
MOST_SHARING = 16


def png_is_whole(path: Path) -> bool:
    """Tell whether a PNG's stream holds all its rows. Raises `ValueError` if it was changed."""
    with path.open("rb") as file:
        expected, found, content = 0, 0, zlib.decompressobj()
        for kind, length in png_chunks.heads(file):
            if kind == b"IHDR":
                expected = _png_bytes(file.read(length))
                if expected > path.stat().st_size * MOST_INFLATION:
                    return False
            elif kind == b"IDAT":
                check = zlib.crc32(kind)
                for block in _blocks(file, length):
                    check = zlib.crc32(block, check)
                    found += _inflated(content, block, expected - found)
                if file.read(4) not in (check.to_bytes(4, "big"), b""):
                    raise ValueError("its pixels are not those of their checksum")
            if kind == b"IEND" or (expected and found >= expected):
                break
    return found >= expected > 0


def _blocks(file: IO[bytes], length: int) -> Iterator[bytes]:
    while length and (block := file.read(min(length, BLOCK_BYTES))):
        length -= len(block)
        yield block


def _inflated(content: Any, block: bytes, most: int) -> int:
    """Count the bytes that a further block of a stream gives, counted up to `most`."""
    found = 0
    while block and found < most and not content.eof:
        try:
            found += len(content.decompress(block, BLOCK_BYTES))
        except zlib.error:
            break
        block = content.unconsumed_tail
    return found


def _png_bytes(header: bytes) -> int:
    """Bytes of all filtered rows of a PNG with this IHDR."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    bits = depth * PNG_CHANNELS.get(colour, 1)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for top, left, down, right in passes:
        rows, columns = -(-(height - top) // down), -(-(width - left) // right)
        if rows > 0 and columns > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def jpeg_can_hold(path: Path, width: int, height: int) -> bool:
    """Tell whether a JPEG has a bit for each of its blocks, no code is shorter; and not more
    scans than anybody writes, since each is a walk over all blocks."""
    blocks = -(-width // JPEG_BLOCK_PX) * -(-height // JPEG_BLOCK_PX)
    content = path.read_bytes()
    scans = sum(marker == jpeg_segments.SCAN for marker, *_ in jpeg_segments.segments(content))
    return blocks // 8 <= len(content) and scans <= MOST_JPEG_SCANS


def gif_can_hold(path: Path, width: int, height: int) -> bool:
    """Tell whether a GIF has a code for all pixels of its screen."""
    return width * height <= path.stat().st_size * MOST_IN_GIF


def avif_is_so_large(path: Path) -> bool:
    """Tell whether the streams of an AVIF are as large as its boxes say; decoders enlarge them."""
    return all(
        width <= coded[0] and height <= coded[1]
        for (width, height), coded in av1_sizes.said_and_coded(path.read_bytes())
    )


def jpeg_filled(content: bytes) -> bytes:
    """A JPEG with something else behind what each of its scans, and parts of scans, holds.

    Decoders take it for missing pixels, and pass it over where none is missing.
    """
    found = list(jpeg_segments.segments(content))
    if not JPEG_ARITHMETIC.isdisjoint(marker for marker, *_ in found):
        # Encoders of these may leave zeros at the end to be guessed.
        return content
    parts, done = list[bytes](), 0
    for start, end in (span for marker, *span in found if marker == jpeg_segments.SCAN):
        parts += content[done:start], jpeg_segments.RESTART.sub(_after_filling, content[start:end])
        # Missing parts, too: they end at markers that count from 0 to 7, and to 0 again.
        last = max(content.rfind(bytes((0xFF, 0xD0 + n)), start, end) for n in range(8))
        following = content[last + 1] + 1 if last >= 0 else 0
        parts += (JPEG_FILLING + bytes((0xFF, 0xD0 + (following + n) % 8)) for n in range(8))
        done = end
    return b"".join((*parts, content[done:]))


def _after_filling(restart: re.Match[bytes]) -> bytes:
    return JPEG_FILLING + restart[0]


def refuse_early_end(image: Any) -> None:
    """Let an image of Pillow's raise `ValueError` where it needs more than its file has, also
    where the program we run in set `LOAD_TRUNCATED_IMAGES`, for which Pillow fills with black."""

    def read(count: int) -> bytes:
        block: bytes = image.fp.read(count)
        if not block:
            raise ValueError("it ends before its last row")
        return block

    # PNG has such a method of its own.
    if not hasattr(image, "load_read"):
        image.load_read = read


def tiff_is_whole(page: Any, file_bytes: int) -> bool:
    """Tell whether strips or tiles of a page of tifffile's lie in the file and hold all rows."""
    offsets: Sequence[int] = page.dataoffsets
    counts: Sequence[int] = page.databytecounts
    inside = all(
        offset > 0 and count > 0 and offset + count <= file_bytes
        for offset, count in zip(offsets, counts, strict=False)
    )
    across, down = _size_of_a_part(page)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    parts = -(-page.imagewidth // across) * -(-page.imagelength // down) * planes
    expected = page.imagewidth * page.imagelength * page.samplesperpixel * page.bitspersample // 8
    if page.compression == UNCOMPRESSED:
        enough = sum(counts) >= expected
    else:
        enough = sum(counts) <= file_bytes * MOST_SHARING
    if not (inside and enough and len(offsets) >= parts and len(counts) >= parts):
        return False
    if page.compression not in (*JPEGS_IN_TIFF, *JPEG_XR_IN_TIFF):
        return True
    return all(_part_is_whole(page, number, (across, down)) for number in range(parts))


def _size_of_a_part(page: Any) -> tuple[int, int]:
    """Columns and rows of a strip or tile."""
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    return int(page.imagewidth), min(int(page.rowsperstrip), int(page.imagelength))


def _part_is_whole(page: Any, number: int, size: tuple[int, int]) -> bool:
    """False for a strip or tile of JPEG or JPEG XR that ends early or is smaller than what it has
    to show: their decoders say nothing of it."""
    file = page.parent.filehandle
    file.seek(page.dataoffsets[number])
    content: bytes = file.read(page.databytecounts[number])
    if page.compression in JPEG_XR_IN_TIFF:
        return _jpeg_xr_is_whole(content)
    filled = jpeg_filled(content)
    shown = [page.decode(x, number, jpegtables=page.jpegtables)[0] for x in (content, filled)]
    if not np.array_equal(*shown):
        return False
    if page.planarconfig == 2 and page.photometric == 6:
        # Planes of colours may be smaller than that of brightness.
        return _jpeg_shows(content, 0, 0, 1)
    in_a_row = -(-page.imagewidth // size[0])
    top = number // in_a_row % -(-page.imagelength // size[1]) * size[1]
    width = min(size[0], page.imagewidth - number % in_a_row * size[0])
    height = min(size[1], page.imagelength - top)
    return _jpeg_shows(
        content, width, height, 1 if page.planarconfig == 2 else page.samplesperpixel
    )


def _jpeg_shows(content: bytes, width: int, height: int, samples: int) -> bool:
    """Tell whether a JPEG's frame is so large, and an end follows its scans."""
    large, marker = False, 0
    for marker, start, _ in jpeg_segments.segments(content):
        if marker in JPEG_FRAMES and start + 6 <= len(content):
            down, across, channels = struct.unpack_from(">HHB", content, start + 1)
            # Lossless ones may take two neighbours for channels of one pixel.
            large = down >= height and across * channels >= width * samples
    return large and marker == jpeg_segments.END


def _jpeg_xr_is_whole(content: bytes) -> bool:
    """Tell whether the pixels that a JPEG XR's directory names lie within it."""
    if len(content) < 10:
        return False
    directory = struct.unpack_from("<I", content, 4)[0]
    head = content[directory : directory + 2]
    if len(head) < 2:
        return False
    named = dict[int, int]()
    for entry in range(struct.unpack("<H", head)[0]):
        field = content[directory + 2 + 12 * entry :][:12]
        if len(field) < 12:
            return False
        tag, _, _, value = struct.unpack("<HHII", field)
        named[tag] = value
    ends = named.get(JPEG_XR_PLACE, 0) + named.get(JPEG_XR_BYTES, 0)
    return 0 < ends <= len(content)
