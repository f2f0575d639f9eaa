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
# Headers of frames (ITU-T T.81, table B.1): tables and a marker without meaning lie among them.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
UNCOMPRESSED = 1
JPEGS_IN_TIFF, JPEG_XR_IN_TIFF = (7, 33007, 34892), (22610, 34934)
# ITU-T T.832, A.7: where the pixels of a JPEG XR begin, and their bytes.
JPEG_XR_PLACE, JPEG_XR_BYTES = 0xBCC0, 0xBCC1
# Equal tiles may be written once; a few bytes that are a million tiles are an attack.
MOST_SHARING = 16


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
    """Tell whether a JPEG's frame is so large, and an end follows its first scan."""
    place, large = 2, False
    while place + 10 <= len(content) and content[place] == JPEG_END[0]:
        marker, length = struct.unpack_from(">BH", content, place + 1)
        if marker == JPEG_SCAN:
            return large and content.find(JPEG_END, place) >= 0
        if marker in JPEG_FRAMES:
            down, across, channels = struct.unpack_from(">HHB", content, place + 5)
            # Lossless ones may take two neighbours for channels of one pixel.
            large = down >= height and across * channels >= width * samples
        place += 1 if marker == JPEG_END[0] else 2 + length
    return False


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
