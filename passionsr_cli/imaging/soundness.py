"""Files that cannot hold what their header says, found before any work is done for them.

Decoders fill with black or grey what is missing; a file that ends too early is damaged, not dark.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from passionsr_cli.metadata import png_chunks

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
BLOCK_BYTES = 1 << 20
JPEG_BLOCK_PX = 8
JPEG_END, JPEG_SCAN = b"\xff\xd9", 0xDA
UNCOMPRESSED = 1


def png_is_whole(path: Path) -> bool:
    """Tell whether the stream of a PNG holds all its rows."""
    with path.open("rb") as file:
        expected, found, content = 0, 0, zlib.decompressobj()
        for kind, length in png_chunks.heads(file):
            if kind == b"IHDR":
                expected = _png_bytes(file.read(length))
                if expected > path.stat().st_size * MOST_INFLATION:
                    return False
            elif kind == b"IDAT":
                for block in _blocks(file, length):
                    found += _inflated(content, block, expected - found)
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
    """Tell whether a JPEG has a bit for each of its blocks; no code is shorter."""
    blocks = -(-width // JPEG_BLOCK_PX) * -(-height // JPEG_BLOCK_PX)
    return blocks // 8 <= path.stat().st_size


def jpeg_ends(path: Path) -> bool:
    """Tell whether an end follows the first scan of a JPEG; True where its segments are damaged."""
    content, place = path.read_bytes(), 2
    while place + 4 <= len(content) and content[place] == JPEG_END[0]:
        marker, length = struct.unpack_from(">BH", content, place + 1)
        if marker == JPEG_SCAN:
            return content.find(JPEG_END, place) >= 0
        # Markers may be padded with more of their first byte.
        place += 1 if marker == JPEG_END[0] else 2 + length
    return True


def tiff_is_whole(page: Any, file_bytes: int) -> bool:
    """Tell whether strips or tiles of a page of tifffile's lie in the file and hold all rows."""
    offsets: Sequence[int] = page.dataoffsets
    counts: Sequence[int] = page.databytecounts
    inside = all(
        offset > 0 and count > 0 and offset + count <= file_bytes
        for offset, count in zip(offsets, counts, strict=False)
    )
    if page.is_tiled:
        across = -(-page.imagewidth // page.tilewidth)
        parts = across * -(-page.imagelength // page.tilelength)
    else:
        parts = -(-page.imagelength // min(page.rowsperstrip, page.imagelength))
    if page.planarconfig == 2:
        parts *= page.samplesperpixel
    expected = page.imagewidth * page.imagelength * page.samplesperpixel * page.bitspersample // 8
    enough = page.compression != UNCOMPRESSED or sum(counts) >= expected
    return inside and enough and len(offsets) >= parts and len(counts) >= parts


def tiff_ends(path: Path) -> bool:
    """Tell whether the chain of a TIFF's directories comes to an end instead of to itself."""
    with path.open("rb") as file:
        start = file.read(16)
        order = "<" if start[:2] == b"II" else ">"
        big = struct.unpack(f"{order}H", start[2:4])[0] == 43
        number, entry, offset_code = ("Q", 20, "Q") if big else ("H", 12, "I")
        where = struct.unpack_from(f"{order}{offset_code}", start, 8 if big else 4)[0]
        seen = set()
        while where:
            if where in seen:
                return False
            seen.add(where)
            file.seek(where)
            head = file.read(struct.calcsize(number))
            if len(head) < struct.calcsize(number):
                return True
            file.seek(struct.unpack(f"{order}{number}", head)[0] * entry, 1)
            following = file.read(struct.calcsize(offset_code))
            if len(following) < struct.calcsize(offset_code):
                return True
            where = struct.unpack(f"{order}{offset_code}", following)[0]
    return True
