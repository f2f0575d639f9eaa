"""EXIF blocks (CIPA DC-008): what they say of their file, corrected in place.

Everything else stays where it is, since makers' notes point into the block by absolute offsets.
Damaged blocks, a frequent thing, stay as they are from the damage on.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

PREFIX = b"Exif\x00\x00"
ORDERS = (b"II", b"MM")
EMPTY = b"II*\0" + struct.pack("<IHI", 8, 0, 0)
ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
RESOLUTION = (X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT)
EXIF_IFD, INTEROP_IFD = 0x8769, 0xA005
# Width and height, by the directory that has them: the image's, the picture's, the related one's.
SIZES = {None: (0x0100, 0x0101), EXIF_IFD: (0xA002, 0xA003), INTEROP_IFD: (0x1001, 0x1002)}
# Area and place of the subject, in pixels of the source, and how close these lay on the sensor.
IN_SOURCE_PIXELS = (0x9214, 0xA214, 0xA20E, 0xA20F, 0xA210)
THUMBNAIL_AT, THUMBNAIL_BYTES = 0x0201, 0x0202
SHORT, LONG, RATIONAL = 3, 4, 5
ENTRY_BYTES = 12
INCH, CENTIMETRE, CM_PER_INCH = 2, 3, 2.54
MOST_PER_INCH = 65535


@dataclass(frozen=True)
class _Entry:
    """One entry of a directory, whose 12 bytes are `raw`, at `place`."""

    place: int
    tag: int
    kind: int
    raw: bytes


class _Block:
    """A block whose entries are read and written; raises `struct.error` beyond its end."""

    def __init__(self, exif: bytes) -> None:
        self.content = bytearray(exif)
        self.order = "<" if exif.startswith(b"II") else ">"

    def read(self, form: str, place: int) -> int:
        return int(struct.unpack_from(f"{self.order}{form}", self.content, place)[0])

    def write(self, form: str, place: int, *values: int) -> None:
        struct.pack_into(f"{self.order}{form}", self.content, place, *values)

    @property
    def first(self) -> int:
        """Offset of the first directory."""
        return self.read("I", 4)

    def entries(self, directory: int) -> Iterator[_Entry]:
        for number in range(self.read("H", directory)):
            place = directory + 2 + ENTRY_BYTES * number
            raw = bytes(self.content[place : place + ENTRY_BYTES])
            tag, kind = struct.unpack_from(f"{self.order}HH", raw)
            yield _Entry(place, tag, kind, raw)

    def end(self, directory: int) -> int:
        """End of a directory's entries; the offset of the directory after it stands there."""
        return directory + 2 + ENTRY_BYTES * self.read("H", directory)

    def find(self, directory: int, tag: int) -> _Entry | None:
        return next((entry for entry in self.entries(directory) if entry.tag == tag), None)

    def number(self, directory: int, tag: int) -> int | None:
        """The integer of an entry; None without it."""
        entry = self.find(directory, tag)
        if entry is None or entry.kind not in (SHORT, LONG):
            return None
        return self.read("H" if entry.kind == SHORT else "I", entry.place + 8)

    def rational(self, directory: int, tag: int) -> float | None:
        """The fraction of an entry; None without it, or over nothing."""
        entry = self.find(directory, tag)
        if entry is None or entry.kind != RATIONAL:
            return None
        place = self.read("I", entry.place + 8)
        below = self.read("I", place + 4)
        return self.read("I", place) / below if below else None

    def directory(self, tag: int | None) -> int | None:
        """Offset of a directory, the first for None; None where there is none of that tag."""
        if tag is None:
            return self.first
        above = self.directory(EXIF_IFD if tag == INTEROP_IFD else None)
        return None if above is None else self.number(above, tag)

    def replace(self, directory: int, entries: list[bytes]) -> None:
        """Give a directory other entries, not more than it has; what hangs on it stays."""
        end = self.end(directory)
        link = struct.pack(f"{self.order}I", self.read("I", end))
        new = b"".join(entries) + link
        self.content[directory + 2 : end + 4] = new.ljust(end + 2 - directory, b"\0")
        self.write("H", directory, len(entries))


def orientation(exif: bytes) -> int | None:
    """The orientation that a block names, None where it names none."""
    try:
        block = _Block(exif)
        return block.number(block.first, ORIENTATION) if exif[:2] in ORDERS else None
    except struct.error:
        return None


def resolution(exif: bytes) -> tuple[float, float] | None:
    """Pixels per inch across and down, None where a block does not say them."""
    try:
        block = _Block(exif)
        across, down = (block.rational(block.first, tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
        unit = CM_PER_INCH if block.number(block.first, RESOLUTION_UNIT) == CENTIMETRE else 1
        return per_inch(across, down, unit) if across and down and exif[:2] in ORDERS else None
    except struct.error:
        return None


def per_inch(across: float, down: float, unit: float = 1) -> tuple[float, float] | None:
    """A resolution, `unit` being what makes it one per inch; None for what is none."""
    found = across * unit, down * unit
    return found if all(1 <= value <= MOST_PER_INCH for value in found) else None


def upright(exif: bytes, lying: bool) -> bytes:
    """A block whose picture was turned; `lying` says that its rows were columns."""
    return _edited(exif, _set_upright, *([_exchange_resolutions] if lying else []))


def of_result(exif: bytes, size: tuple[int, int]) -> bytes:
    """A block for a result of `size` (width, height), without thumbnail and what speaks of the
    source's pixels."""
    resizes = [partial(_set_size, directory=tag, size=size) for tag in SIZES]
    return _edited(exif, _drop_thumbnail, *resizes, _drop_source_pixels)


def with_resolution(exif: bytes, per_inch: tuple[float, float]) -> bytes:
    """A block that says the resolution that its container said, whatever it said itself."""
    return _edited(exif, partial(_set_resolution, per_inch=per_inch))


def _edited(exif: bytes, *edits: Callable[[_Block], None]) -> bytes:
    """A block after edits, each as far as damage lets it come."""
    if exif[:2] not in ORDERS:
        return exif
    block = _Block(exif)
    for edit in edits:
        with contextlib.suppress(struct.error):
            edit(block)
    return bytes(block.content)


def _set_upright(block: _Block) -> None:
    entry = block.find(block.first, ORIENTATION)
    if entry is not None and entry.kind in (SHORT, LONG):
        block.write("H" if entry.kind == SHORT else "I", entry.place + 8, 1)


def _exchange_resolutions(block: _Block) -> None:
    across, down = (block.find(block.first, tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
    if across is not None and down is not None:
        places = block.read("I", down.place + 8), block.read("I", across.place + 8)
        block.write("I", across.place + 8, places[0])
        block.write("I", down.place + 8, places[1])


def _set_size(block: _Block, directory: int | None, size: tuple[int, int]) -> None:
    start = block.directory(directory)
    if start is None:
        return
    for tag, pixels in zip(SIZES[directory], size, strict=True):
        if (entry := block.find(start, tag)) is not None:
            # Either kind is allowed, and its value stands in the entry.
            block.write("HII", entry.place + 2, LONG, 1, pixels)


def _drop_source_pixels(block: _Block) -> None:
    if (start := block.directory(EXIF_IFD)) is not None:
        kept = [entry.raw for entry in block.entries(start) if entry.tag not in IN_SOURCE_PIXELS]
        block.replace(start, kept)


def _drop_thumbnail(block: _Block) -> None:
    link = block.end(block.first)
    thumbnail = block.read("I", link)
    if not thumbnail:
        return
    block.write("I", link, 0)
    start, length = (block.number(thumbnail, tag) for tag in (THUMBNAIL_AT, THUMBNAIL_BYTES))
    if start is None or length is None or not thumbnail < start < len(block.content):
        return
    if start + length >= len(block.content):
        del block.content[start:]
    else:
        block.content[start : start + length] = bytes(length)


def _set_resolution(block: _Block, per_inch: tuple[float, float]) -> None:
    """In a copy of the first directory at the end: all offsets stay what they were."""
    if resolution(bytes(block.content)) == per_inch:
        return
    first = block.first
    kept = [entry for entry in block.entries(first) if entry.tag not in RESOLUTION]
    entries = [(entry.tag, entry.raw) for entry in kept]
    link = block.read("I", block.end(first))
    block.content += bytes(len(block.content) % 2)
    values = len(block.content)
    for value in per_inch:
        fraction = Fraction(value).limit_denominator(1000)
        block.content += struct.pack(f"{block.order}II", fraction.numerator, fraction.denominator)
    pack = struct.Struct(f"{block.order}HHII").pack
    entries += [
        (X_RESOLUTION, pack(X_RESOLUTION, RATIONAL, 1, values)),
        (Y_RESOLUTION, pack(Y_RESOLUTION, RATIONAL, 1, values + 8)),
        (RESOLUTION_UNIT, struct.pack(f"{block.order}HHIHH", RESOLUTION_UNIT, SHORT, 1, INCH, 0)),
    ]
    block.write("I", 4, len(block.content))
    block.content += struct.pack(f"{block.order}H", len(entries))
    block.content += b"".join(entry for _, entry in sorted(entries))
    block.content += struct.pack(f"{block.order}I", link)
