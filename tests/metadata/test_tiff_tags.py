"""Odd entries of EXIF in TIFF files, read back by Pillow."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from passionsr_cli.imaging.files import read_picture, write_picture
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.metadata.kinds import Metadata

GPS_IFD, RATING = 0x8825, 18246
VERSION, ALTITUDE, SATELLITES = 0, 6, 8


def _entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


def _block(odd: bytes) -> bytes:
    """A rating of 4, and a GPS directory of one odd entry and one in order."""
    first = (_entry(RATING, 3, 1, b"\4\0"), _entry(GPS_IFD, 4, 1, struct.pack("<I", 38)))
    gps = (odd, _entry(SATELLITES, 2, 3, b"12\0"))
    directories = (struct.pack("<H", 2) + b"".join(each) + bytes(4) for each in (first, gps))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(directories) + struct.pack("<ii", -12, 1)


ODD = {
    "a signed height": (_entry(ALTITUDE, 10, 1, struct.pack("<I", 68)), {ALTITUDE: -12.0}),
    "a version as text": (_entry(VERSION, 2, 4, b"2.3\0"), {VERSION: "2.3"}),
    "a height as text": (_entry(ALTITUDE, 2, 3, b"12\0"), {ALTITUDE: "12"}),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_entry_costs_nothing_else(tmp_path: Path, case: str) -> None:
    odd, expected = ODD[case]
    picture = Picture(np.zeros((3, 8, 8), np.float32), metadata=Metadata(exif=_block(odd)))
    write_picture(tmp_path / "a.tif", picture)
    with Image.open(tmp_path / "a.tif") as image:
        exif = image.getexif()
        assert exif[RATING] == 4
        assert exif.get_ifd(GPS_IFD) == {**expected, SATELLITES: "12"}
    again = Image.Exif()
    again.load(b"Exif\0\0" + (read_picture(tmp_path / "a.tif").metadata.exif or b""))
    assert again[RATING] == 4
    assert again.get_ifd(GPS_IFD)[SATELLITES] == "12"
