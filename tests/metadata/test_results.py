"""What a photograph's metadata says of its file is true of the result, in every format."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, IptcImagePlugin

from passionsr_cli.imaging.files import read_picture, write_picture, write_upscaled
from passionsr_cli.pixels.strips import strips_of

FORMATS = [".jpg", ".png", ".tif", ".webp", ".avif", ".heic"]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:G="http://ns.google.com/photos/1.0/camera/" '
    b'xmlns:exif="http://ns.adobe.com/exif/1.0/" G:MotionPhoto="1" exif:PixelXDimension="48"/>'
)
CAPTION = b"\x1c\x02x\x00\x05hello"


def _photograph(path: Path, orientation: int = 6) -> Path:
    """A lying JPEG with everything: thumbnail, sizes, GPS, caption, 300 × 150 dots per inch."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = 48, 32
    exif.get_ifd(0x8825)[1] = "N"
    with io.BytesIO() as out:
        Image.new("RGB", (16, 8)).save(out, "JPEG")
        thumbnail = out.getvalue()
    # Pillow writes no thumbnails: one is hung on the end of its block.
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if block.startswith(b"II") else ">"
    first = struct.unpack_from(f"{order}I", block, 4)[0]
    link = first + 2 + 12 * struct.unpack_from(f"{order}H", block, first)[0]
    struct.pack_into(f"{order}I", block, link, len(block))
    after = len(block) + 2 + 24 + 4
    block += struct.pack(f"{order}HHHII", 2, 0x201, 4, 1, after)
    block += struct.pack(f"{order}HHII", 0x202, 4, 1, len(thumbnail)) + bytes(4) + thumbnail
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(CAPTION)) + CAPTION
    caption = b"Photoshop 3.0\0" + resource + bytes(len(CAPTION) % 2)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(
        path,
        exif=b"Exif\0\0" + bytes(block),
        xmp=XMP,
        dpi=(300, 150),
        extra=struct.pack(">HH", 0xFFED, len(caption) + 2) + caption,
    )
    with Image.open(path) as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)[0x202] == len(thumbnail)
    return path


def _written(source: Path, result: Path) -> Any:
    picture = read_picture(source)
    size = (picture.size[0] * 4, picture.size[1] * 4)
    large = picture.rgb.repeat(4, 1).repeat(4, 2)
    write_upscaled(result, picture, strips_of(large), size, size)
    image = Image.open(result)
    image.load()
    return image


@pytest.mark.parametrize("suffix", FORMATS)
def test_of_a_result(tmp_path: Path, suffix: str) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    image = _written(_photograph(tmp_path / "a.jpg"), tmp_path / f"b{suffix}")
    assert image.size == (128, 192)
    exif = image.getexif()
    details = exif.get_ifd(0x8769)
    assert (details[0xA002], details[0xA003]) == (128, 192)
    assert exif.get(0x0112, 1) == 1
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert (exif[0x010F], exif.get_ifd(0x8825)[1]) == ("maker", "N")
    xmp = image.info["xmp"]
    assert b"MotionPhoto" not in xmp
    assert b'PixelXDimension="128"' in xmp
    # Turned, so that columns are closer than rows.
    said = image.info["dpi"] if suffix in (".jpg", ".png", ".tif") else (exif[0x11A], exif[0x11B])
    assert tuple(map(float, said)) == pytest.approx((150, 300), abs=0.02)
    if suffix in (".jpg", ".tif"):
        assert IptcImagePlugin.getiptcinfo(image) == {(2, 120): b"hello"}


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png"])
@pytest.mark.parametrize("unit", ["inch", "centimeter"])
def test_of_a_tiff(tmp_path: Path, suffix: str, unit: str) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((32, 48, 3), np.uint8),
        photometric="rgb",
        resolution=(100, 50),
        resolutionunit=unit,
        extratags=[
            (274, 3, 1, 6, True),
            (33723, 7, len(CAPTION), CAPTION, True),
        ],
    )
    image = _written(tmp_path / "a.tif", tmp_path / f"b{suffix}")
    inch = 2.54 if unit == "centimeter" else 1
    assert tuple(map(float, image.info["dpi"])) == pytest.approx((50 * inch, 100 * inch), abs=0.3)
    if suffix != ".png":
        assert IptcImagePlugin.getiptcinfo(image) == {(2, 120): b"hello"}


def test_captions_in_photoshops_resources_of_a_tiff(tmp_path: Path) -> None:
    # Of an odd length and with a name, before the one that is looked for.
    other = b"8BIM\x03\xed\x03abc\0\0\0\x03xyz\0"
    resources = other + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(CAPTION)) + CAPTION
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((32, 48, 3), np.uint8),
        photometric="rgb",
        extratags=[(34377, 7, len(resources), resources, True)],
    )
    assert read_picture(tmp_path / "a.tif").metadata.iptc == CAPTION


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".heic"])
def test_resolution_goes_through_files_that_say_it_in_exif_alone(
    tmp_path: Path, suffix: str
) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    # As a camera says it, where a program has put another into the file since.
    exif[0x11A], exif[0x11B], exif[0x128] = 72.0, 72.0, 2
    for block in (b"", exif.tobytes()):
        Image.new("RGB", (48, 32)).save(tmp_path / "a.jpg", dpi=(300, 150), exif=block)
        write_picture(tmp_path / f"b{suffix}", read_picture(tmp_path / "a.jpg"))
        between = read_picture(tmp_path / f"b{suffix}")
        for last in (".jpg", ".png", ".tif", ".bmp"):
            write_picture(tmp_path / f"c{last}", between)
            with Image.open(tmp_path / f"c{last}") as image:
                said = tuple(map(float, image.info["dpi"]))
            assert said == pytest.approx((300, 150), abs=0.02)


@pytest.mark.parametrize("suffix", FORMATS)
def test_without_a_resolution_none_is_invented(tmp_path: Path, suffix: str) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.new("RGB", (48, 32)).save(tmp_path / "a.png")
    image = _written(tmp_path / "a.png", tmp_path / f"b{suffix}")
    assert "exif" not in image.info or not image.getexif().get(0x11A)
    assert tuple(map(float, image.info.get("dpi", (1, 1)))) == (1, 1)


@pytest.mark.parametrize("strip", [False, True])
def test_bitmaps_hold_the_resolution_alone(tmp_path: Path, strip: bool) -> None:
    Image.new("RGB", (48, 32)).save(tmp_path / "a.bmp", dpi=(300, 150))
    picture = read_picture(tmp_path / "a.bmp")
    write_picture(tmp_path / "b.bmp", picture.stripped() if strip else picture)
    across, down = struct.unpack_from("<ii", (tmp_path / "b.bmp").read_bytes(), 38)
    # In pixels per metre; 0 says nothing.
    assert (across, down) == ((0, 0) if strip else (11811, 5906))
