"""Colours against the matrices of the standards, in float64."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from passionsr_cli.imaging import profiles
from passionsr_cli.imaging.files import read_picture, write_picture

PRIMARIES = {
    "display-p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe-rgb": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
    "srgb": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
}
D65 = (0.3127, 0.3290)
GAMMA = 2.2


@cache  # a profile carries the second in which it was made
def profile(name: str) -> bytes:
    flat = [value for x, y in PRIMARIES[name] for value in (x, y, 1.0)]
    made = imagecodecs.cms_profile("rgb", whitepoint=[*D65, 1.0], primaries=flat, gamma=GAMMA)
    return bytes(made)


def _to_xyz(name: str) -> np.ndarray:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in PRIMARIES[name]]).T
    white = np.array([D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def _srgb(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("name", ["display-p3", "adobe-rgb"])
def test_colours_become_those_of_the_standards(name: str) -> None:
    values = np.random.default_rng(0).uniform(0.05, 0.95, (3, 150, 40)).astype(np.float32)
    linear = (values.astype(float) ** GAMMA).reshape(3, -1)
    expected = _srgb(np.linalg.solve(_to_xyz("srgb"), _to_xyz(name) @ linear))
    found = profiles.to_srgb(values, profile(name)).reshape(3, -1)
    assert np.abs(found - expected).max() < 2e-3


def test_what_is_as_good_as_srgb_is_left_alone() -> None:
    assert not profiles.needs_conversion(None)
    assert not profiles.needs_conversion(profiles.srgb())
    assert not profiles.needs_conversion(b"no profile at all")
    assert not profiles.needs_conversion(profiles.srgb()[:200])
    assert profiles.needs_conversion(profile("display-p3"))


def _saturated(path: Path, depth: int) -> np.ndarray:
    """An image that uses all of its profile's colours, far beyond those of sRGB."""
    ramp = np.linspace(0, 1, 24)
    pixels = np.stack(np.meshgrid(ramp, ramp), -1)
    pixels = np.dstack([pixels[..., 0], pixels[..., 1], 1 - pixels[..., 0]])
    white = 2**depth - 1
    stored = (pixels * white).round().astype(f"u{depth // 8}")
    if depth == 8:
        Image.fromarray(stored).save(path, icc_profile=profile("display-p3"))
    else:
        import tifffile

        kept = profile("display-p3")
        tifffile.imwrite(path, stored, photometric="rgb", iccprofile=kept)
    return stored


@pytest.mark.parametrize(("name", "depth"), [("a.png", 8), ("a.tif", 16)])
def test_there_and_back_keeps_colours_that_srgb_lacks(
    tmp_path: Path, name: str, depth: int
) -> None:
    stored = _saturated(tmp_path / name, depth)
    picture = read_picture(tmp_path / name)
    assert picture.beyond_srgb is not None
    assert np.abs(picture.beyond_srgb).max() > 0.1
    assert picture.rgb.min() >= 0
    assert picture.rgb.max() <= 1
    write_picture(tmp_path / f"b{name}", picture)
    import tifffile

    read = tifffile.imread if depth == 16 else Image.open
    found = np.array(read(tmp_path / f"b{name}"))
    assert np.abs(found.astype(int) - stored).max() <= 1
    assert read_picture(tmp_path / f"b{name}").metadata.icc_profile == profile("display-p3")


def test_without_its_profile_a_picture_is_srgb(tmp_path: Path) -> None:
    _saturated(tmp_path / "a.png", 8)
    picture = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", picture.stripped())
    with Image.open(tmp_path / "b.png") as image:
        assert set(image.info) == set()
        found = np.array(image)
    assert np.abs(found - picture.rgb.transpose(1, 2, 0) * 255).max() <= 0.5 + 1e-3


def test_inks_with_an_odd_profile_are_light_that_is_taken_away(tmp_path: Path) -> None:
    inks = np.random.default_rng(0).integers(0, 256, (12, 12, 4), dtype=np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif", icc_profile=b"odd")
    picture = read_picture(tmp_path / "a.tif")
    light = 1 - inks.astype(float) / 255
    expected = (light[..., :3] * light[..., 3:]).transpose(2, 0, 1)
    assert np.abs(picture.rgb - expected).max() < 1e-6
    assert picture.metadata.icc_profile is None
