"""Sizes in the boxes and streams of AVIF files, against encoders and headers written by hand."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest

from passionsr_cli.metadata.av1_sizes import depth, said_and_coded


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (257, 129), (1, 1000)])
def test_of_an_encoder(size: tuple[int, int]) -> None:
    width, height = size
    for channels, images in ((1, 1), (3, 1), (4, 2)):
        pixels = np.zeros((height, width, channels), np.uint8).squeeze(-1 if channels == 1 else ())
        content = bytes(imagecodecs.avif_encode(np.ascontiguousarray(pixels)))
        assert list(said_and_coded(content)) == [(size, size)] * images
        for cut in range(0, len(content), 7):
            assert len(list(said_and_coded(content[:cut]))) <= images


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_depth(bits: int, channels: int) -> None:
    shape = (16, 24, channels) if channels > 1 else (16, 24)
    pixels = np.zeros(shape, np.uint8 if bits == 8 else np.uint16)
    content = bytes(imagecodecs.avif_encode(pixels, bitspersample=bits))
    assert depth(content) == bits
    assert all(depth(content[:cut]) in (8, bits) for cut in range(0, len(content), 7))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _file(stream: bytes, version: int, in_own_data: bool) -> bytes:
    """An AVIF of one item of 640×480 pixels, as far as boxes go."""
    wide = "I" if version == 2 else "H"
    size = _box(b"ispe", struct.pack(">III", 0, 640, 480))
    numbers = struct.pack(">IIHBHH", 1, 1, 1, 2, 0x8001, 2)
    described = _box(b"iprp", _box(b"ipco", _box(b"av1C", b"\x81") + size) + _box(b"ipma", numbers))
    head = _box(b"ftyp", b"avif")

    def meta(start: int) -> bytes:
        place = struct.pack(f">B3xH{wide}{wide}", version, 0x4440, 1, 1)
        place += struct.pack(">H", int(in_own_data)) if version else b""
        place += struct.pack(">HIHII", 0, 0 if in_own_data else start, 1, 3, len(stream))
        own = _box(b"idat", b"___" + stream) if in_own_data else b""
        return _box(b"meta", bytes(4) + _box(b"iloc", place) + described + own)

    return head + meta(len(head + meta(0)) + 8) + _box(b"mdat", b"___" + stream)


def _header(bits: str) -> bytes:
    """A temporal delimiter and a sequence header."""
    content = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return b"\x12\0" + bytes((0x0A, len(content))) + content


SIZE = f"{9:04b}{8:04b}{319:010b}{239:09b}"
HEADERS = {
    "reduced": "000" + "11" + "00000" + SIZE,
    "plain": "000" + "00" + "0" + "0" + "00000" + "0" * 12 + "01000" + "0" + SIZE,
    # Two operating points with tiers, timing, a model of the decoder, and delays.
    "all": "000" + "00" + "1" + "0" * 64 + "1" + "00100" + "1" + "00011" + "0" * 42 + "1" + "00001"
    + ("0" * 12 + "01000" + "0" + "1" + "0" * 9 + "1" + "0000") * 2 + SIZE,
}  # fmt: skip


@pytest.mark.parametrize("in_own_data", [False, True])
@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("kind", HEADERS)
def test_of_headers_by_hand(kind: str, version: int, in_own_data: bool) -> None:
    if in_own_data and not version:
        pytest.skip("the first version knows the file alone")
    content = _file(_header(HEADERS[kind]), version, in_own_data)
    assert list(said_and_coded(content)) == [((640, 480), (320, 240))]
