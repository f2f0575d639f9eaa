"""Files that end too early are refused; whole ones of every kind are not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.tiling.tiles import plan_axis

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (33, 21, 3), dtype=np.uint8)


def _png(path: Path, rows: int, depth: int, colour: int, interlaced: bool = False) -> Path:
    """A PNG of 21×33 pixels whose stream ends properly after `rows` of its rows are in it."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    passes = [(33, 21)]
    if interlaced:
        # How many rows and columns each of Adam7's passes has, counted by hand.
        passes = [(5, 3), (5, 3), (4, 6), (9, 5), (8, 11), (17, 10), (16, 21)]
    content = b"".join(bytes(1 + -(-columns * bits // 8)) * height for height, columns in passes)
    content = content[: len(content) * rows // 33]
    header = struct.pack(">IIBBBBB", 21, 33, depth, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    stream = zlib.compress(content)
    halves = chunk(b"IDAT", stream[:9]) + chunk(b"IDAT", stream[9:])
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette
    path.write_bytes(start + halves + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("depth", "colour"),
    [
        *((depth, 0) for depth in (1, 2, 4, 8, 16)),
        *((depth, 3) for depth in (1, 4, 8)),
        *((depth, colour) for depth in (8, 16) for colour in (2, 4, 6)),
    ],
)
def test_png_streams(tmp_path: Path, depth: int, colour: int, interlaced: bool) -> None:
    whole = _png(tmp_path / "whole.png", 33, depth, colour, interlaced)
    assert read_picture(whole).size == (21, 33)
    for rows in (32, 16, 0):
        with pytest.raises(ImageError, match="damaged"):
            read_picture(_png(tmp_path / "short.png", rows, depth, colour, interlaced))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_pngs_whose_pixels_were_changed(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.repeat(PIXELS[:, :1], 21, 1)).convert(mode).save(path)
    content = path.read_bytes()
    place, end = content.index(b"IDAT") + 4, content.index(b"IEND") - 8
    for start in range(place + 2, end - 4, 5):
        for tail in (bytes(end - start), bytes((content[start] ^ 1,)) + content[start + 1 : end]):
            path.write_bytes(content[:start] + tail + content[end:])
            with pytest.raises(ImageError, match="damaged"):
                read_picture(path)
    # All viewers show these.
    path.write_bytes(content[: end + 4])
    assert read_picture(path).size == (21, 33)


def test_a_jpeg_that_lacks_its_end_alone_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        Image.fromarray(PIXELS).save(path, **options)
        wanted, content = read_picture(path).rgb, path.read_bytes()
        path.write_bytes(content[:-2])
        assert (read_picture(path).rgb == wanted).all()
        for cut in (10, 100, len(content) // 2):
            path.write_bytes(content[:-cut])
            with pytest.raises(ImageError, match="damaged"):
                read_picture(path)


def test_a_jpeg_too_small_for_its_size_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 9000, 10_000)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged: it ends before its last row"):
        read_picture(path)


KINDS_OF_JPEG: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "full colours": {"subsampling": 0},
    "parts": {"restart_marker_blocks": 1},
    "rows": {"restart_marker_rows": 1},
    "progressive rows": {"progressive": True, "restart_marker_rows": 1},
}


def _claiming(content: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame says another size."""
    place = max(content.find(b"\xff\xc0\0\x11"), content.find(b"\xff\xc2\0\x11")) + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


@pytest.mark.parametrize("kind", KINDS_OF_JPEG)
def test_jpegs_that_show_less_than_they_say(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, **KINDS_OF_JPEG[kind])
    content = path.read_bytes()
    with Image.open(path) as image:
        shown = np.asarray(image).transpose(2, 0, 1) / 255
    assert np.abs(read_picture(path).rgb - shown).max() < 1e-6
    for size in ((21, 49), (37, 33), (21, 129), (200, 200)):
        for end in (b"", b"\xff\xd9" * 3, bytes(50), b"\xff"):
            path.write_bytes(_claiming(content, *size)[: None if end == b"" else -2] + end)
            with pytest.raises(ImageError, match="damaged: it ends before its last row"):
                read_picture(path)


def test_a_part_that_a_jpeg_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, restart_marker_blocks=1)
    content = path.read_bytes()
    # Six blocks of 16×16 pixels: one is cut short, or missing.
    markers = [content.rindex(bytes((0xFF, 0xD0 + number))) for number in range(5)]
    for start, end in ((markers[1] + 20, markers[2]), (markers[4], len(content) - 2)):
        path.write_bytes(content[:start] + content[end:])
        with pytest.raises(ImageError, match="damaged: it ends before its last row"):
            read_picture(path)


def test_a_thousand_scans_are_no_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, progressive=True)
    content = path.read_bytes()
    last = content.rindex(b"\xff\xda")
    path.write_bytes(content[:-2] + content[last:-2] * 1000 + b"\xff\xd9")
    with pytest.raises(ImageError, match="damaged"):
        read_picture(path)


@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_jpegs_in_a_tiff_that_show_less_than_they_say(
    tmp_path: Path, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS[:32], photometric="rgb", compression="jpeg", tile=tile)
    assert read_picture(path).size == (21, 32)
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[0]  # type: ignore[union-attr]
    content = path.read_bytes()
    head = content.index(b"\xff\xc0", place) + 5
    # The frame stays as large as the strip has to be, and its content does not.
    scan = content.index(b"\xff\xda", head)
    for start in (scan + 20, scan + 100):
        end = content.index(b"\xff\xd9", start)
        short = content[:start] + b"\xff\xd9" + bytes(end - start) + content[end + 2 :]
        path.write_bytes(short)
        with pytest.raises(ImageError, match="damaged"):
            read_picture(path)


def test_an_avif_whose_box_says_more_than_its_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    for options in ({}, {"exif": b"II*\0\x08\0\0\0\0\0\0\0\0\0"}, {"subsampling": "4:4:4"}):
        Image.fromarray(PIXELS).save(path, **options)
        content = path.read_bytes()
        place = content.index(b"ispe") + 8
        assert read_picture(path).size == struct.unpack_from(">II", content, place)
        for size in ((6000, 6000), (21, 34), (22, 33)):
            path.write_bytes(content[:place] + struct.pack(">II", *size) + content[place + 8 :])
            with pytest.raises(ImageError, match="damaged: it ends before its last row"):
                read_picture(path)


def test_gifs_whose_screen_is_larger_than_any_code(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.new("P", (1500, 1500), 3).save(path)
    content = path.read_bytes()
    assert len(content) < 4000
    assert read_picture(path).size == (1500, 1500)
    path.write_bytes(content[:6] + struct.pack("<HH", 9000, 9000) + content[10:])
    with pytest.raises(ImageError, match="damaged: it ends before its last row"):
        read_picture(path)


TIFFS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 8},
    "one strip": {},
    "deflated": {"compression": "zlib", "rowsperstrip": 8},
    "tiles": {"tile": (16, 16)},
    "planes": {"planarconfig": "separate", "rowsperstrip": 8},
    "big-endian BigTIFF": {"bigtiff": True, "byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "JPEG 2000": {"compression": "jpeg2000"},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", TIFFS)
def test_tiffs(tmp_path: Path, kind: str, dtype: type[np.unsignedinteger[Any]]) -> None:
    white = np.iinfo(dtype).max
    pixels = RNG.integers(0, white + 1, (3, 33, 21) if kind == "planes" else (33, 21, 3), dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", **TIFFS[kind])
    shown = (pixels if kind == "planes" else pixels.transpose(2, 0, 1)) / white
    assert np.abs(read_picture(path).rgb - shown).max() <= 0.51 / 255
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileOffsets" if kind == "tiles" else "StripOffsets"]  # type: ignore[union-attr]
        values = tag.value
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags[tag.code]  # type: ignore[union-attr]
        tag.overwrite(tuple(0 if place == 0 else value for place, value in enumerate(values)))
    with pytest.raises(ImageError, match="damaged"):
        read_picture(path)


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 16},
    "tiles": {"tile": (32, 32)},
    "one strip": {},
    "planes": {"planarconfig": "separate", "rowsperstrip": 16},
}
SMOOTH = np.repeat(np.add.outer(np.arange(96), np.arange(64))[..., None], 3, 2)


@pytest.mark.parametrize("compression", ["jpeg", "jpegxr", "webp", "jpegxl", "lerc", "zstd", "lzw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_part_of_a_tiff_that_ends_early(
    tmp_path: Path, layout: str, dtype: type[np.unsignedinteger[Any]], compression: str
) -> None:
    pixels, path = SMOOTH.astype(dtype), tmp_path / "a.tif"
    written = pixels.transpose(2, 0, 1) if layout == "planes" else pixels
    try:
        options = LAYOUTS[layout]
        tifffile.imwrite(path, written, photometric="rgb", compression=compression, **options)
    except ValueError:
        pytest.skip("no such file can be written")
    if (layout, compression) != ("planes", "webp"):
        assert read_picture(path).size == (64, 96)
    tag = "TileByteCounts" if layout == "tiles" else "StripByteCounts"
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = list(file.pages[0].databytecounts)  # type: ignore[union-attr]
        counts[-2:] = [count // 2 for count in counts[-2:]]
        file.pages[0].tags[tag].overwrite(tuple(counts))  # type: ignore[union-attr]
    with pytest.raises(ImageError, match="damaged"):
        read_picture(path)


@pytest.mark.parametrize("height", [100, 6000])
@pytest.mark.parametrize("compression", ["jpeg", "jpegxl", "webp", "lerc", "lzw"])
def test_a_header_larger_than_what_a_strip_shows(
    tmp_path: Path, compression: str, height: int
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SMOOTH.astype(np.uint8), photometric="rgb", compression=compression)
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag in ("ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(height)  # type: ignore[union-attr]
    with pytest.raises(ImageError, match="damaged"):
        read_picture(path)


def test_many_parts_of_the_same_bytes_take_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = RNG.integers(0, 256, (2000, 8, 3), dtype=np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", rowsperstrip=1)
    with tifffile.TiffFile(path, mode="r+") as file:
        page: Any = file.pages[0]
        everything = min(path.stat().st_size - page.dataoffsets[0], 65535)
        page.tags["StripOffsets"].overwrite((page.dataoffsets[0],) * 2000)
        page.tags["StripByteCounts"].overwrite((everything,) * 2000)
    with pytest.raises(ImageError, match="damaged"):
        read_picture(path)


def test_inks_with_alpha(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = RNG.integers(0, 256, (33, 21, 5), dtype=np.uint8)
    tifffile.imwrite(path, pixels, photometric="separated", extrasamples=["unassalpha"])
    picture = read_picture(path)
    assert picture.depth == 8
    assert picture.alpha is not None
    assert np.allclose(picture.alpha[0], pixels[..., 4] / 255)


@pytest.mark.parametrize("tag", ["ImageWidth", "ImageLength", "SamplesPerPixel"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["rgb", "separated"])
def test_nothing_is_no_picture(
    tmp_path: Path, tag: str, dtype: type[np.unsignedinteger[Any]], photometric: str
) -> None:
    path = tmp_path / "a.tif"
    channels = 4 if photometric == "separated" else 3
    tifffile.imwrite(path, np.zeros((33, 21, channels), dtype), photometric=photometric)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[tag].overwrite(0)  # type: ignore[union-attr]
    with pytest.raises(ImageError, match=r"a\.tif"):
        read_picture(path)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("SamplesPerPixel", 65535, "65535 channels"),
        ("BitsPerSample", (8, 513, 2), "different numbers of bits"),
    ],
)
def test_odd_channels_take_no_time(tmp_path: Path, tag: str, value: Any, message: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[tag].overwrite(value)  # type: ignore[union-attr]
    with pytest.raises(ImageError, match=message):
        read_picture(path)


@pytest.mark.parametrize("pages", [1, 2, 150])
def test_directories_in_a_circle_are_refused(tmp_path: Path, pages: int) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for _ in range(pages):
            file.write(PIXELS, photometric="rgb", metadata=None)
    with tifffile.TiffFile(path) as file:
        first = file.pages[0].offset  # type: ignore[union-attr]
        last = file.pages[-1].offset  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    entries = struct.unpack_from("<H", content, last)[0]
    struct.pack_into("<I", content, last + 2 + 12 * entries, first)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="lead back to themselves"):
        read_picture(path)


def test_a_plan_takes_memory_by_its_length_alone() -> None:
    axis = plan_axis(400_000, 512, 64, 8)
    assert sum(window.size for window in axis.windows) < 2 * 400_000
    total = np.zeros(400_000)
    for start, window in zip(axis.starts, axis.windows, strict=True):
        total[start : start + axis.length] += window
    assert np.allclose(total, 1)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "suffix", ["bmp", "gif", "ppm", "pgm", "pbm", "png", "jpg", "webp", "tif", "avif"]
)
def test_half_a_file_is_no_picture_whatever_the_program_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, lenient: bool
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    path = tmp_path / f"a.{suffix}"
    mode = {"pgm": "L", "pbm": "1"}.get(suffix, "RGB")
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert read_picture(path).size == (21, 33)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"a\.{suffix}: (damaged|not an image)"):
        read_picture(path)
