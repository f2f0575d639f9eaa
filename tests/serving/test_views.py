"""Views of a result beside its input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from passionsr_cli.errors import ImageError
from passionsr_cli.serving import views
from passionsr_cli.upscaling.images import Done


def _done(folder: Path, size: tuple[int, int], mode: str = "RGB", **options: object) -> Done:
    """An input and a result of which every pixel is known: columns of two colours, rows fade."""
    small, large = size, (size[0] * 4, size[1] * 4)
    for name, (width, height) in (("in.png", small), ("out.png", large)):
        rows = np.linspace(0, 255, height).astype(np.uint8)[:, None].repeat(width, 1)
        planes = [rows, np.full_like(rows, 90), rows[::-1]]
        Image.fromarray(np.stack(planes, -1)).convert(mode).save(folder / name, **options)
    return Done(str(folder / "in.png"), folder / "out.png", small, large, 1.0, 1)


def _pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.asarray(Image.open(path).convert("RGB"), np.int16)


def test_a_place_has_the_results_own_pixels(tmp_path: Path) -> None:
    done = _done(tmp_path, (300, 200))
    before, after = views.at_pixels(done, 1.0, 0.25)
    left, top = 1200 - 640, round((800 - 640) * 0.25)
    expected = _pixels(done.output)[top : top + 640, left:]
    assert np.array_equal(_pixels(after), expected)
    assert np.abs(_pixels(before) - expected).max() <= 2


def test_the_whole_is_shrunk_alike(tmp_path: Path) -> None:
    done = _done(tmp_path, (800, 100))
    before, after = views.whole(done)
    with Image.open(before) as first, Image.open(after) as second:
        assert first.size == second.size == (2048, 256)
    assert np.abs(_pixels(before) - _pixels(after)).mean() < 2


def test_a_small_result_is_shown_as_it_is(tmp_path: Path) -> None:
    done = _done(tmp_path, (20, 10))
    sizes = [Image.open(path).size for path in (*views.whole(done), *views.at_pixels(done, 1, 1))]
    assert sizes == [(80, 40)] * 4


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    done = _done(tmp_path, (20, 10), "RGBA")
    for name in ("in.png", "out.png"):
        with Image.open(tmp_path / name) as image:
            image.putalpha(0)
            image.save(tmp_path / name)
    for path in views.whole(done):
        assert _pixels(path).min() > 250


def test_deep_grey_and_profiles_are_shown_right(tmp_path: Path) -> None:
    done = _done(tmp_path, (20, 10))
    levels = np.linspace(0, 65535, 80 * 40).astype(np.uint16).reshape(40, 80)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(levels).save(done.output, icc_profile=profile)
    after = views.at_pixels(done, 0, 0)[1]
    assert np.abs(_pixels(after)[..., 0] - levels / 257).max() <= 1
    with Image.open(after) as image:
        assert image.info["icc_profile"] == profile


def test_what_is_too_large_to_be_shown_is_said(tmp_path: Path) -> None:
    done = Done("in.png", tmp_path / "out.png", (5000, 5000), (20000, 20000), 1.0, 1)
    with pytest.raises(ImageError, match=r"out\.png: too large to be shown"):
        views.whole(done)
