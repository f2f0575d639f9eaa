from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from passionsr_cli.metadata.kinds import Metadata
from passionsr_cli.pixels.arrays import turn_upright


def _exif(orientation: int, order: str = "<") -> bytes:
    """One directory with a maker's note that points at itself by absolute offsets."""
    entries = [
        struct.pack(f"{order}HHI4s", 0x010F, 2, 4, b"abc\0"),
        struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0),
        struct.pack(f"{order}HHII", 0x927C, 7, 5, 8 + 2 + 3 * 12 + 4),
    ]
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return head + b"".join(entries) + bytes(4) + b"maker"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_only_the_orientation_changes(order: str, orientation: int) -> None:
    block = _exif(orientation, order)
    metadata = Metadata(exif=block)
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + block)
    assert metadata.orientation == exif[0x0112] == orientation
    assert metadata.upright().exif == _exif(1, order)


@pytest.mark.parametrize(
    "block",
    [b"", b"II", b"XX*\0\x08\0\0\0", _exif(6)[:30], _exif(0), _exif(77), b"II*\0\xff\xff\xff\xff"],
)
def test_broken_exif_is_upright_and_stays_in_length(block: bytes) -> None:
    metadata = Metadata(exif=block)
    assert metadata.orientation == 1
    assert len(metadata.upright().exif or b"") == len(block)


@pytest.mark.parametrize(
    "xmp",
    [b'<rdf tiff:Orientation="6" a="6"/>', b"<tiff:Orientation>6</tiff:Orientation><b>6</b>"],
)
def test_xmp_says_it_where_exif_does_not(xmp: bytes) -> None:
    metadata = Metadata(xmp=xmp)
    assert metadata.orientation == 6
    assert metadata.upright().xmp == xmp.replace(b"6", b"1", 1)
    assert Metadata(exif=_exif(3), xmp=xmp).orientation == 3


def test_pixels_turn_as_pillow_turns_them() -> None:
    pixels = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3)
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    for orientation, turn in turns.items():
        expected = Image.fromarray(pixels).transpose(Image.Transpose(turn))
        found = turn_upright(pixels[..., None], orientation)[..., 0]
        assert np.array_equal(found, np.array(expected)), orientation
