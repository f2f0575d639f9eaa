from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging import tiff
from passionsr_cli.imaging.files import read_picture, size_of, write_picture
from passionsr_cli.metadata.kinds import Metadata

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tifffile_and_libtiff_read_what_was_written(
    tmp_path: Path, depth: int, channels: int
) -> None:
    pixels = RNG.integers(0, 2**depth, (40, 33, channels)).astype(f"u{depth // 8}")
    strips = (pixels[top : top + 16] for top in range(0, 40, 16))
    tiff.write(tmp_path / "a.tif", pixels.shape, depth, Metadata(), strips, 16)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), pixels.squeeze())
    if depth == 8:
        assert np.array_equal(np.array(Image.open(tmp_path / "a.tif")), pixels.squeeze())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "tile": (16, 16)},
        {"planarconfig": "separate"},
        {"byteorder": ">"},
        {"bigtiff": True},
    ],
)
def test_sixteen_bits_of_colour_are_read_exactly(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = RNG.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    values = pixels.transpose(2, 0, 1) if "planarconfig" in options else pixels
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", **options)
    picture = read_picture(tmp_path / "a.tif")
    assert picture.depth == 16
    assert np.array_equal((picture.rgb * 65535).round(), pixels.transpose(2, 0, 1))


def test_white_is_zero_grey_is_read(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    picture = read_picture(tmp_path / "a.tif")
    assert picture.grey
    assert np.array_equal((picture.rgb[0] * 65535).round(), 65535 - pixels)


def test_premultiplied_colours_are_divided(tmp_path: Path) -> None:
    alpha = np.linspace(8192, 65535, 30).round()[None, :].repeat(20, 0)
    colour = np.array([1.0, 0.5, 0.25]) * alpha[..., None]
    pixels = np.dstack([colour, alpha]).round().astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(tmp_path / "a.tif")
    wanted = np.array([1.0, 0.5, 0.25])[:, None, None]
    assert np.abs(picture.rgb - wanted).max() < 1e-4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
def test_every_orientation_is_read_upright(tmp_path: Path, orientation: int, depth: int) -> None:
    stored = RNG.integers(0, 2**depth, (6, 9, 3)).astype(f"u{depth // 8}")
    tag = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=tag)
    turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]
    small = Image.fromarray(np.arange(54, dtype=np.uint8).reshape(6, 9))
    place = np.array(small if turn is None else small.transpose(Image.Transpose(turn)))
    expected = stored.reshape(-1, 3)[place.ravel()].reshape(*place.shape, 3)
    found = read_picture(tmp_path / "a.tif").rgb.transpose(1, 2, 0) * (2**depth - 1)
    assert np.array_equal(found.round(), expected)
    assert size_of(tmp_path / "a.tif") == expected.shape[1::-1]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_every_kind_of_pixels_is_read_upright(tmp_path: Path, mode: str, orientation: int) -> None:
    """As a PNG of what Pillow decodes from memory, where it cannot map the file."""
    image = Image.fromarray(RNG.integers(0, 256, (6, 9, 3)).astype("u1")).convert(mode)
    image.save(tmp_path / "a.tif", tiffinfo={274: orientation})
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO((tmp_path / "a.tif").read_bytes())))
    found, expected = read_picture(tmp_path / "a.tif"), turned.convert("RGBA")
    assert found.size == expected.size == ((6, 9) if orientation >= 5 else (9, 6))
    if mode != "CMYK":
        wanted = np.asarray(expected)[..., :3]
        assert np.array_equal((found.rgb.transpose(1, 2, 0) * 255).round(), wanted)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((9, 9, 3), np.float32), "no defined white"),
        (np.zeros((9, 9), np.uint32), "no defined white"),
        (np.zeros((4, 9, 9), np.uint16), "4 pages"),
        (np.zeros((4, 9, 9), np.uint8), "4 pages"),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, pixels: Any, message: str) -> None:
    photometric = "rgb" if pixels.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric)
    with pytest.raises(ImageError, match=rf"a\.tif: .*{message}"):
        read_picture(tmp_path / "a.tif")


def test_a_preview_is_no_second_page(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels, photometric="rgb")
        file.write(pixels[::2, ::2], photometric="rgb", subfiletype=1)
    assert read_picture(tmp_path / "a.tif").size == (30, 20)


def test_exif_goes_through_tags(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x8298], exif[0x0112] = "maker", "© nobody".encode(), 1
    exif.get_ifd(0x8769)[0x829A] = 1 / 250
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8769)[0xA434] = "objectif à 50 mm".encode()
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(
        tmp_path / "a.jpg", exif=exif, xmp=b"<x/>", icc_profile=b"profile"
    )
    for name in ("b.tif", "c.tif", "d.jpg"):
        picture = read_picture(sorted(tmp_path.iterdir())[-1])
        write_picture(tmp_path / name, picture)
    for name in ("b.tif", "c.tif", "d.jpg"):
        with Image.open(tmp_path / name) as image:
            found = image.getexif()
            assert found[0x010F] == "maker"
            assert found[0x8298].encode("latin-1") == "© nobody".encode()
            assert float(found.get_ifd(0x8769)[0x829A]) == pytest.approx(1 / 250)
            assert found.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
            assert found.get_ifd(0x8825)[1] == "N"
            assert found.get_ifd(0x8769)[0xA434] == "objectif à 50 mm".encode()
        kept = read_picture(tmp_path / name).metadata
        assert (kept.xmp, kept.icc_profile) == (b"<x/>", b"profile")
