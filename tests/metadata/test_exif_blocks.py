"""Blocks are read back by Pillow, which has nothing to do with how they are corrected."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from passionsr_cli.metadata import exif_blocks

RNG = np.random.default_rng(0)


def _read(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + block)
    return exif


def _thumbnail() -> bytes:
    with io.BytesIO() as out:
        Image.new("RGB", (32, 24), "red").save(out, "JPEG")
        return out.getvalue()


def _of_a_camera(order: str, note_last: bool) -> tuple[bytes, bytes]:
    """A block as cameras write it, by hand, and its maker's note: every value at its own offset."""
    thumbnail, note = _thumbnail(), bytes(range(1, 41))
    first, second, third, interop = 8, 200, 400, 340
    one, other = (3000, thumbnail), (600, note)
    thumbnail_at, note_at = (one[0], other[0]) if not note_last else (1000, 3000)

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        short = struct.pack(f"{order}HH", value, 0) if (kind, count) == (3, 1) else None
        return struct.pack(f"{order}HHI", tag, kind, count) + (
            short or struct.pack(f"{order}I", value)
        )

    def directory(entries: list[bytes], link: int) -> bytes:
        head = struct.pack(f"{order}H", len(entries))
        return head + b"".join(entries) + struct.pack(f"{order}I", link)

    block = bytearray(4000)
    block[:8] = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, first)
    parts = {
        first: directory(
            [
                entry(0x100, 3, 1, 640),
                entry(0x101, 4, 1, 480),
                entry(0x112, 3, 1, 6),
                entry(0x11A, 5, 1, 150),
                entry(0x11B, 5, 1, 158),
                entry(0x128, 3, 1, 2),
                entry(0x8769, 4, 1, second),
            ],
            third,
        ),
        150: struct.pack(f"{order}IIII", 300, 1, 600, 1),
        second: directory(
            [
                entry(0x9214, 3, 4, 500),
                entry(0x927C, 7, len(note), note_at),
                entry(0xA002, 3, 1, 640),
                entry(0xA003, 3, 1, 480),
                entry(0xA005, 4, 1, interop),
                entry(0xA20E, 5, 1, 150),
                entry(0xA20F, 5, 1, 158),
                entry(0xA210, 3, 1, 3),
                entry(0xA214, 3, 2, 0x00100020),
                entry(0xA401, 3, 1, 1),
            ],
            0,
        ),
        interop: directory([entry(0x1001, 3, 1, 640), entry(0x1002, 3, 1, 480)], 0),
        third: directory(
            [entry(0x201, 4, 1, thumbnail_at), entry(0x202, 4, 1, len(thumbnail))],
            0,
        ),
        500: struct.pack(f"{order}4H", 1, 2, 3, 4),
        thumbnail_at: thumbnail,
        note_at: note,
    }
    for place, content in parts.items():
        block[place : place + len(content)] = content
    end = max(thumbnail_at + len(thumbnail), note_at + len(note))
    return bytes(block[:end]), note


@pytest.mark.parametrize("note_last", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_result_has_its_own_size_and_no_thumbnail(order: str, note_last: bool) -> None:
    block, note = _of_a_camera(order, note_last)
    before = _read(block)
    assert before.get_ifd(ExifTags.IFD.IFD1)[0x202] == len(_thumbnail())
    result = exif_blocks.of_result(block, (70_000, 3))
    after = _read(result)
    assert not after.get_ifd(ExifTags.IFD.IFD1)
    assert _thumbnail()[:100] not in result
    assert (after[0x100], after[0x101]) == (70_000, 3)
    details = after.get_ifd(0x8769)
    assert (details[0xA002], details[0xA003], details[0xA401]) == (70_000, 3, 1)
    related = after.get_ifd(0xA005)
    assert (related[0x1001], related[0x1002]) == (70_000, 3)
    assert not {0x9214, 0xA20E, 0xA20F, 0xA210, 0xA214} & details.keys()
    # The maker's own offsets stay right: the note is where it was.
    assert details[0x927C] == note
    place = block.index(note)
    assert result[place : place + len(note)] == note
    assert after[0x11A] == 300


@pytest.mark.parametrize("order", ["<", ">"])
def test_resolutions_change_places_with_the_sides(order: str) -> None:
    block, _ = _of_a_camera(order, False)
    assert exif_blocks.resolution(block) == (300, 600)
    turned = exif_blocks.upright(block, lying=True)
    assert (_read(turned)[0x11A], _read(turned)[0x11B], _read(turned)[0x112]) == (600, 300, 1)
    kept = exif_blocks.upright(block, lying=False)
    assert (_read(kept)[0x11A], _read(kept)[0x11B]) == (300, 600)


@pytest.mark.parametrize("kind", ["H", "I"])
def test_a_picture_that_was_turned_is_upright(kind: str) -> None:
    entry = struct.pack("<HHI", 0x0112, {"H": 3, "I": 4}[kind], 1) + struct.pack(f"<{kind}", 6)
    block = b"II*\0" + struct.pack("<IH", 8, 1) + entry.ljust(12, b"\0") + bytes(4)
    assert exif_blocks.orientation(block) == 6
    assert _read(exif_blocks.upright(block, lying=True))[0x0112] == 1


def test_resolution_is_added_where_there_is_none() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0131] = "maker", "program"
    exif.get_ifd(0x8769)[0x927C] = b"a note"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    for start in (block, exif_blocks.EMPTY):
        found = _read(exif_blocks.with_resolution(start, (300.0, 72.5)))
        assert (found[0x11A], found[0x11B], found[0x128]) == (300, 72.5, 2)
        if start is block:
            assert (found[0x010F], found[0x0131]) == ("maker", "program")
            assert found.get_ifd(0x8769)[0x927C] == b"a note"
    camera, _ = _of_a_camera("<", False)
    assert exif_blocks.with_resolution(camera, (300, 600)) == camera


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_containers_resolution_counts(order: str) -> None:
    camera, note = _of_a_camera(order, False)
    found = exif_blocks.with_resolution(camera, (150.5, 72))
    assert exif_blocks.resolution(found) == (150.5, 72)
    assert found.index(note) == camera.index(note)
    before, after = _read(camera), _read(found)
    others = before.keys() - {0x11A, 0x11B, 0x128}
    assert {tag: after[tag] for tag in others} == {tag: before[tag] for tag in others}
    assert after.keys() == before.keys() | {0x128}


@pytest.mark.parametrize("unit", [1, 2, 3])
def test_resolution_per_centimetre(unit: int) -> None:
    exif = Image.Exif()
    exif[0x11A], exif[0x11B], exif[0x128] = 100.0, 200.0, unit
    found = exif_blocks.resolution(exif.tobytes().removeprefix(b"Exif\0\0"))
    assert found == pytest.approx((254, 508) if unit == 3 else (100, 200))


def test_damaged_blocks_are_neither_followed_nor_lost() -> None:
    block, _ = _of_a_camera("<", False)
    for _ in range(2000):
        damaged = bytearray(block[: int(RNG.integers(1, len(block)))])
        for place in RNG.integers(0, min(len(damaged), 460), 4):
            damaged[place] = RNG.integers(0, 256)
        result = exif_blocks.of_result(bytes(damaged), (64, 48))
        assert len(result) <= len(damaged)
        exif_blocks.with_resolution(result, (1, 1))
        exif_blocks.upright(result, True)
        exif_blocks.resolution(result)
    for block in (b"", b"II", b"no EXIF at all"):
        assert exif_blocks.of_result(block, (1, 1)) == block
        assert exif_blocks.with_resolution(block, (1, 1)) == block
