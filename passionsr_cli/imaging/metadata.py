"""Metadata of a picture: profile, EXIF, XMP, and which way is up."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Level = TypeVar("Level", bound=np.generic)

EXIF_PREFIX = b"Exif\x00\x00"
ORIENTATION_TAG, SHORT = 0x0112, 3
UPRIGHT = 1
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])")


@dataclass(frozen=True)
class Metadata:
    """The bytes of each kind as the file held them, or None.

    `exif` begins with its TIFF header, without the prefix that JPEG files put before it.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    @property
    def orientation(self) -> int:
        """EXIF's orientation 1 … 8, else XMP's; 1, upright, where neither is to be had."""
        place = _orientation_place(self.exif or b"")
        if place is not None and self.exif is not None:
            form, offset = place
            (value,) = struct.unpack_from(form, self.exif, offset)
            return int(value) if 1 <= value <= 8 else UPRIGHT
        found = _XMP_ORIENTATION.search(self.xmp or b"")
        return int(found[2]) if found else UPRIGHT

    def upright(self) -> Metadata:
        """The same metadata of a picture that was turned; all other bytes stay as they are."""
        exif, xmp = self.exif, self.xmp
        place = _orientation_place(exif or b"")
        if place is not None and exif is not None:
            form, offset = place
            changed = bytearray(exif)
            struct.pack_into(form, changed, offset, UPRIGHT)
            exif = bytes(changed)
        if xmp is not None:
            xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
        return replace(self, exif=exif, xmp=xmp)


def _orientation_place(exif: bytes) -> tuple[str, int] | None:
    """Place and packing of the value. Damaged EXIF, a frequent thing, has none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if (tag, kind) == (ORIENTATION_TAG, SHORT):
                struct.unpack_from(f"{order}H", exif, entry + 8)
                return f"{order}H", entry + 8
    except struct.error:
        return None
    return None


def turn_upright(pixels: npt.NDArray[Level], orientation: int) -> npt.NDArray[Level]:
    """Pixels (H, W, C) of a file as they are to be seen (EXIF 2.3, tag 0x0112); a view."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # What remains is mirroring, as seen after rows and columns changed places.
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
