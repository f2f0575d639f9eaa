"""Colours that files name without a profile, against the definitions of those colour spaces."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging.files import read_picture, write_picture

PIXELS = np.random.default_rng(0).integers(60, 190, (16, 24, 3), dtype=np.uint8)
# RGB to XYZ at D65: IEC 61966-2-1, SMPTE EG 432-1 and Adobe RGB (1998) Color Image Encoding 4.3.5.
SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
P3 = np.array([[0.4866, 0.2657, 0.1982], [0.2290, 0.6917, 0.0793], [0, 0.0451, 1.0439]])
ADOBE = np.array(
    [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
)

Floats = npt.NDArray[np.float64]


def _light(values: Floats) -> Floats:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _shown(light: Floats, to_xyz: Floats = SRGB) -> Floats:
    """Linear light (H, W, 3) of some primaries as sRGB (3, H, W)."""
    linear = (light @ to_xyz.T @ np.linalg.inv(SRGB).T).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded.transpose(2, 0, 1)


def _tagged(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    Image.fromarray(PIXELS).save(path)
    content = path.read_bytes()
    after_header = 8 + 25
    added = b""
    for kind, data in chunks:
        check = zlib.crc32(kind + data)
        added += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
    path.write_bytes(content[:after_header] + added + content[after_header:])
    return path


def _gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


CHRM_SRGB = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
CHRM_P3 = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
VALUES = PIXELS / 255


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([_gamma(1.0)], _shown(VALUES)),
        ([_gamma(1 / 1.8)], _shown(VALUES**1.8)),
        ([_gamma(1.0), CHRM_P3], _shown(VALUES, P3)),
        ([_gamma(0.45455), CHRM_P3], _shown(VALUES**2.2, P3)),
        ([(b"cICP", bytes([12, 13, 0, 1]))], _shown(_light(VALUES), P3)),
        ([(b"cICP", bytes([12, 8, 0, 1])), _gamma(0.5)], _shown(VALUES, P3)),
        ([_gamma(0.45455)], VALUES.transpose(2, 0, 1)),
        ([(b"sRGB", b"\0"), _gamma(1.0)], VALUES.transpose(2, 0, 1)),
        ([(b"cICP", bytes([1, 13, 0, 1])), _gamma(1.0)], VALUES.transpose(2, 0, 1)),
        ([(b"cICP", bytes([2, 2, 0, 1]))], VALUES.transpose(2, 0, 1)),
    ],
)
def test_chunks_of_png(tmp_path: Path, chunks: list[tuple[bytes, bytes]], expected: Floats) -> None:
    picture = read_picture(_tagged(tmp_path / "a.png", *chunks))
    assert np.abs(picture.rgb - expected).max() <= 1.5 / 255
    # The result says its colours by a profile, which any reader knows.
    write_picture(tmp_path / "b.png", picture)
    assert np.abs(read_picture(tmp_path / "b.png").rgb - picture.rgb).max() <= 1.5 / 255
    assert np.abs(np.asarray(Image.open(tmp_path / "b.png")).astype(int) - PIXELS).max() <= 1


def test_high_dynamic_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"high dynamic range \(PQ\); save it in standard range"):
        read_picture(_tagged(tmp_path / "a.png", (b"cICP", bytes([9, 16, 0, 1]))))


def test_an_avif_s_primaries(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Image.fromarray(PIXELS).save(path, quality=100, subsampling="4:4:4")
    values = read_picture(path).rgb.transpose(1, 2, 0).astype(float)
    content = bytearray(path.read_bytes())
    place = content.index(b"colrnclx") + 8
    struct.pack_into(">HH", content, place, 12, 13)
    path.write_bytes(content)
    assert np.abs(read_picture(path).rgb - _shown(_light(values), P3)).max() <= 1.5 / 255


def test_cameras_adobe_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    flat = Image.new("RGB", (16, 16), (60, 190, 90))
    flat.save(path, quality=100, subsampling=0, exif=exif)
    values = np.asarray(Image.open(path)) / 255
    expected = _shown(values ** (563 / 256), ADOBE)
    assert np.abs(read_picture(path).rgb - expected).max() <= 2 / 255
    flat.save(path, quality=100, subsampling=0)
    assert np.abs(read_picture(path).rgb - values.transpose(2, 0, 1)).max() <= 0.5 / 255


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif"])
def test_a_profile_of_grey_is_applied_and_goes(tmp_path: Path, suffix: str) -> None:
    import imagecodecs

    grey = PIXELS[..., 0]
    profile = bytes(imagecodecs.cms_profile("gray", gamma=1.0))
    Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=profile)
    picture = read_picture(tmp_path / "a.png")
    expected = _shown((grey / 255)[..., None].repeat(3, -1))
    assert np.abs(picture.rgb - expected).max() <= 1.5 / 255
    write_picture(tmp_path / f"b{suffix}", picture)
    with Image.open(tmp_path / f"b{suffix}") as written:
        assert not written.info.get("icc_profile")
    tolerance = 12 if suffix in (".jpg", ".webp", ".avif") else 1.5
    assert np.abs(read_picture(tmp_path / f"b{suffix}").rgb - picture.rgb).max() <= tolerance / 255
