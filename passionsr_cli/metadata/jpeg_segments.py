"""Segments of a JPEG (ITU-T T.81, B.1), of which the coded part of a scan has no length."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

SCAN, END = 0xDA, 0xD9
# Coded parts go on behind these.
RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_SCAN_END = re.compile(rb"\xff+(?:[^\x00\xff\xd0-\xd7]|\Z)", re.DOTALL)
# Fillers and markers without content.
_ALONE = frozenset((0x00, 0x01, *range(0xD0, 0xD9), 0xFF))


def segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Markers of the first image of a JPEG, and where the content of each begins and ends.

    A scan's is what is coded, without its header.
    """
    place = 2
    while 0 <= (place := content.find(b"\xff", place)) <= len(content) - 2:
        marker = content[place + 1]
        if marker == END:
            yield marker, place, place + 2
            return
        if marker in _ALONE or place + 4 > len(content):
            place += 1
            continue
        start, end = place + 4, place + 2 + struct.unpack_from(">H", content, place + 2)[0]
        if marker == SCAN:
            following = _SCAN_END.search(content, end)
            start, end = end, following.start() if following else len(content)
        yield marker, start, end
        place = max(end, place + 2)


def closed(content: bytes) -> bytes:
    """A JPEG with an end, whether it has one or not.

    Zeros at the end of one without are those of a file that was not written to its end.
    """
    *_, last = (0, *(marker for marker, *_ in segments(content)))
    if last == END:
        return content
    written = content.rstrip(b"\0")
    stuffed = b"\0" if written.endswith(b"\xff") and written != content else b""
    return written + stuffed + bytes((0xFF, END))
