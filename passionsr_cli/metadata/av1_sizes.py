"""Sizes and depth that the boxes of an AVIF say (ISO/IEC 23008-12), and sizes of its AV1 streams.

libavif enlarges a stream that is smaller than its box says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Span = tuple[int, int]
Size = tuple[int, int]
SEQUENCE_HEADER = 1
# Bytes that a sequence header's sizes, and what may precede them, lie in.
HEAD_BYTES = 256
# In the third byte of `av1C`.
HIGH_BITDEPTH, TWELVE_BIT = 0x40, 0x20


def said_and_coded(content: bytes) -> Iterator[tuple[Size, Size]]:
    """Sizes (width, height) of each AV1 image of an AVIF: its box's, and at most its stream's.

    Damaged boxes and streams end it: decoders refuse those.
    """
    try:
        meta = _find(content, (0, len(content)), b"meta")
        inside = meta[0] + 4, meta[1]
        described = _find(content, inside, b"iprp")
        properties = list(_boxes(content, _find(content, described, b"ipco")))
        streams = _streams(content, inside)
        for kind, *places in _boxes(content, described):
            for item, numbers in _associations(content, places[0]) if kind == b"ipma" else ():
                held = {properties[number - 1][0]: properties[number - 1][1] for number in numbers}
                if {b"av1C", b"ispe"} <= held.keys() and item in streams:
                    said = struct.unpack_from(">II", content, held[b"ispe"] + 4)
                    start = streams[item]
                    coded = _coded(content[start : start + HEAD_BYTES])
                    if coded is not None:
                        yield said, coded
    except (struct.error, IndexError):
        return


def depth(content: bytes) -> int:
    """Bits per channel of an AVIF, as its first image says them (AV1 in ISOBMFF, 2.3.3)."""
    meta = _find(content, (0, len(content)), b"meta")
    described = _find(content, (meta[0] + 4, meta[1]), b"iprp")
    start, end = _find(content, _find(content, described, b"ipco"), b"av1C")
    flags = content[start + 2] if end > start + 2 else 0
    return (12 if flags & TWELVE_BIT else 10) if flags & HIGH_BITDEPTH else 8


def _boxes(content: bytes, span: Span) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each box in a span, and where its content begins and ends."""
    start, end = span
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", content, start)
        head = 8
        if length == 1:
            head, length = 16, struct.unpack_from(">Q", content, start + 8)[0]
        length = length or end - start
        if not head <= length <= end - start:
            return
        yield kind, start + head, start + length
        start += length


def _find(content: bytes, span: Span, wanted: bytes) -> Span:
    """The span of the first box of a kind; an empty one without it."""
    found = (place for kind, *place in _boxes(content, span) if kind == wanted)
    start, end = next(found, (0, 0))
    return start, end


def _associations(content: bytes, place: int) -> Iterator[tuple[int, list[int]]]:
    """Numbers of the properties of each item, from 1, of an `ipma` box."""
    version, flags, count = struct.unpack_from(">B2xBI", content, place)
    item_kind, number_kind = "H" if version < 1 else "I", "H" if flags & 1 else "B"
    place += 8
    for _ in range(count):
        item, numbers = struct.unpack_from(f">{item_kind}B", content, place)
        place += struct.calcsize(f">{item_kind}B")
        named = struct.unpack_from(f">{numbers}{number_kind}", content, place)
        place += struct.calcsize(f">{numbers}{number_kind}")
        mask = 0x7FFF if flags & 1 else 0x7F
        yield item, [value & mask for value in named if value & mask]


def _streams(content: bytes, inside: Span) -> dict[int, int]:
    """Offsets of the items' streams, as `iloc` says them."""
    place, end = _find(content, inside, b"iloc")
    own_data = _find(content, inside, b"idat")[0]
    if place == end:
        return {}
    version, sizes = struct.unpack_from(">B3xH", content, place)
    offset, length, base, index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = "I" if version == 2 else "H"
    (count,) = struct.unpack_from(f">{wide}", content, place + 6)
    place += 6 + struct.calcsize(wide)
    found = {}
    for _ in range(count):
        head = f">{wide}{'H' if version else ''}"
        item, *method = struct.unpack_from(head, content, place)
        place += struct.calcsize(head) + 2
        start = int.from_bytes(content[place : place + base], "big")
        place += base
        (extents,) = struct.unpack_from(">H", content, place)
        first = place + 2 + (index if version else 0)
        start += int.from_bytes(content[first : first + offset], "big")
        place += 2 + extents * ((index if version else 0) + offset + length)
        found[item] = start + (own_data if method and method[0] & 15 == 1 else 0)
    return found


def _coded(stream: bytes) -> Size | None:
    """Largest size of frames that a stream's sequence header allows (AV1 specification, 5.5)."""
    place = 0
    while place < len(stream):
        kind, extended, sized = stream[place] >> 3 & 15, stream[place] & 4, stream[place] & 2
        place += 2 if extended else 1
        length = shift = 0
        while sized:
            length |= (stream[place] & 127) << shift
            shift, sized, place = shift + 7, stream[place] & 128, place + 1
        if kind == SEQUENCE_HEADER:
            return _size_in_header(stream[place:])
        place += length
        if not length and kind != 2:
            return None
    return None


def _size_in_header(header: bytes) -> Size:
    bits, left = int.from_bytes(header, "big"), 8 * len(header)

    def take(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise IndexError
        return bits >> left & (1 << count) - 1

    # Profile, and whether it is a still picture.
    take(4)
    if take(1):
        take(5)
    else:
        delay_bits = 0
        if take(1):
            take(64)
            if take(1):
                zeros = 0
                while not take(1):
                    zeros += 1
                take(zeros)
            if take(1):
                delay_bits = take(5) + 1
                take(42)
        display_delays = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if delay_bits and take(1):
                take(2 * delay_bits + 1)
            if display_delays and take(1):
                take(4)
    widths, heights = take(4) + 1, take(4) + 1
    return take(widths) + 1, take(heights) + 1
