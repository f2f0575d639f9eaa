"""Metadata in TIFF files, where EXIF is spread over tags of the first directory and others."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passionsr_cli.metadata import iptc_records
from passionsr_cli.metadata.exif_blocks import (
    CENTIMETRE,
    CM_PER_INCH,
    EXIF_IFD,
    INCH,
    INTEROP_IFD,
    ORIENTATION,
    PREFIX,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    per_inch,
)
from passionsr_cli.metadata.kinds import LYING, UPRIGHT, Metadata

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

BIG_ENDIAN_BIG_MAGIC = b"MM\0+"
BIG_MAGIC = (b"II+\0", BIG_ENDIAN_BIG_MAGIC)
GPS_IFD, ICC, XMP, IPTC, RESOURCES = 0x8825, 34675, 700, 33723, 34377
BYTE, ASCII, SHORT, LONG, UNDEFINED, SIGNED_RATIONAL, LONG8 = 1, 2, 3, 4, 7, 10, 16
LARGEST_SHORT = 2**16 - 1
# Of the first directory, what describes the photograph and not how the file is laid out.
DESCRIPTION = 270
DESCRIPTIVE_TAGS = (DESCRIPTION, 271, 272, 305, 306, 315, 316, 18246, 33432, *range(40091, 40096))
# What tifffile writes there is about the file it writes.
TIFFFILE_SHAPE = '{"shape":'

READ_APART = (ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, XMP, IPTC, RESOURCES, ICC)

# Number, kind, count, value, and whether it is written once: as tifffile takes them.
Tag = tuple[int, int, int, Any, bool]


def come_to_an_end(path: Path) -> bool:
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


def read(path: Path, number: int, place: int) -> Metadata:
    """Read the metadata in a TIFF's directory of this number, which begins at `place`.

    Of the picture turned upright; EXIF is one block.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[number]
        found = {tag.code: tag.value for tag in page.tags if tag.code in READ_APART}
    resources = _bytes(found.get(RESOURCES))
    return Metadata(
        _bytes(found.get(ICC)),
        _exif_of(path, place),
        _bytes(found.get(XMP)),
        _bytes(found.get(IPTC)) or (iptc_records.in_resources(resources) if resources else None),
        _resolution(found),
    )


def _resolution(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    unit = {INCH: 1.0, CENTIMETRE: CM_PER_INCH}.get(tags.get(RESOLUTION_UNIT, INCH))
    across, down = (_fraction(tags.get(tag)) for tag in (X_RESOLUTION, Y_RESOLUTION))
    if unit is None:
        return None
    orientation = tags.get(ORIENTATION, UPRIGHT)
    lying = isinstance(orientation, int) and orientation >= LYING
    return per_inch(*((down, across) if lying else (across, down)), unit)


def _fraction(value: object) -> float:
    match value:
        case (int(above), int(below)) if below:
            return above / below
        case _:
            return 0.0


def _exif_of(path: Path, place: int) -> bytes | None:
    from PIL import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    exif = Image.Exif()
    with path.open("rb") as file:
        header = file.read(16)
        if header.startswith(BIG_ENDIAN_BIG_MAGIC):
            # Pillow cannot read it.
            return None
        header = header if header.startswith(BIG_MAGIC) else header[:8]
        first = ImageFileDirectory_v2(header)
        file.seek(place)
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
                    key: _raw(value)
                    for key, value in directory.items()
                    if key != INTEROP_IFD and _filled(header, tag, key, _raw(value))
                }
                exif.get_ifd(tag).update(entries)
                found = found or bool(entries)
    return exif.tobytes().removeprefix(PREFIX) if found else None


def spread(metadata: Metadata, big: bool) -> tuple[list[Tag], dict[int, Any]]:
    """Tags of the first directory but for profile and resolution, which tifffile writes itself,
    and the directories that `append` hangs on it."""
    tags, directories = _tags_of(metadata.exif or b"")
    if metadata.xmp:
        tags.append((XMP, BYTE, len(metadata.xmp), metadata.xmp, True))
    if metadata.iptc:
        tags.append((IPTC, UNDEFINED, len(metadata.iptc), metadata.iptc, True))
    tags += [(tag - 1, LONG8 if big else LONG, 1, 0, True) for tag in directories]
    return tags, directories


def _filled(
    header: bytes, group: int, key: int, value: Any, kind: int | None = None
) -> ImageFileDirectory_v2 | None:
    """A directory of one entry, as Pillow types it or as `kind`; None if that cannot be."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    directory = ImageFileDirectory_v2(header, group=group)
    try:
        directory[key] = value
        directory.tagtype[key] = kind or directory.tagtype[key]
        directory.tobytes()
    except Exception:
        return None
    return directory


def _raw(value: Any) -> Any:
    """Text as the bytes that were in the file: Pillow reads Latin-1, and writes ASCII alone."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def _bytes(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None


def _tags_of(block: bytes) -> tuple[list[Tag], dict[int, Any]]:
    """EXIF as tags of the first directory, and the directories that hang on it."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(PREFIX + block)
        ifds = {tag: dict(exif.get_ifd(tag)) for tag in (EXIF_IFD, GPS_IFD)}
        ifds[EXIF_IFD].pop(INTEROP_IFD, None)
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
        elif isinstance(value, int) and 0 <= value <= LARGEST_SHORT:
            tags.append((tag, SHORT, 1, value, True))
    return tags, {tag: entries for tag, entries in ifds.items() if entries}


def append(path: Path, directories: dict[int, Any], big: bool) -> None:
    """Put directories at the end of a file, where their tags of the first one then point.

    tifffile writes no such tags; `spread` has left room under the numbers before theirs.
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
                # Programs write heights below zero, and texts where numbers belong.
                other = ASCII if isinstance(value, str) else SIGNED_RATIONAL
                tried = (_filled(header, tag, key, _raw(value), kind) for kind in (None, other))
                if filled := next(filter(None, tried), None):
                    directory[key] = _raw(value)
                    directory.tagtype[key] = filled.tagtype[key]
            offset = (out.seek(0, 2) + 1) // 2 * 2
            out.seek(offset)
            out.write(directory.tobytes(offset))
            entry, value_at = places[tag]
            out.seek(entry)
            out.write(struct.pack("<H", tag))
            out.seek(value_at)
            out.write(struct.pack("<Q" if big else "<I", offset))
