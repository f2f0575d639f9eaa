from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt

from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.resampling import bicubic
from passionsr_cli.tiling.plain_areas import plainness, with_plain_areas

LEVEL = 1 / 255
REACH_PX = 2


def _noise(height: int, width: int) -> Array:
    return np.random.default_rng(0).random((3, height, width), np.float32)


def _grey(height: int, width: int) -> Array:
    return np.full((3, height, width), 0.5, np.float32)


def test_only_what_is_far_from_any_other_colour_is_plain() -> None:
    image = _grey(24, 31)
    image[1, 5:9, 12] += 4 * LEVEL
    image[2, 20, 30] -= 4 * LEVEL
    differs = (image != 0.5).any(0)
    # Chessboard distance to the nearest pixel of another colour, by scipy.
    away = distance_transform_cdt(~differs, "chessboard")
    plain = plainness(image, REACH_PX)[0]
    assert np.array_equal(plain == 1, away > REACH_PX + 1)
    assert np.array_equal(plain == 0, away < REACH_PX)
    assert plain.dtype == np.float32


@pytest.mark.parametrize(("levels", "plain"), [(0, 1), (1, 1), (2, 0), (9, 0)])
def test_a_gradient_of_single_levels_is_plain(levels: int, plain: float) -> None:
    image = _grey(16, 16)
    image[:, :, 8:] += levels * np.float32(LEVEL)
    assert plainness(image, REACH_PX)[0, 8, 8] == pytest.approx(plain, abs=1e-4)


def _plane(down: float, across: float, height: int = 24, width: int = 31) -> Array:
    """Values that change by so many levels a pixel, rounded to levels."""
    rows, columns = np.mgrid[:height, :width]
    levels = np.round(60 + down * rows + across * columns)
    return np.stack([levels, 255 - levels, levels / 2]).astype(np.float32) / 255


@pytest.mark.parametrize(("down", "across"), [(0.8, 0), (0.33, 0.71), (3, -1.2), (2.5, 2.5)])
def test_a_steep_gradient_is_plain(down: float, across: float) -> None:
    assert plainness(_plane(down, across), REACH_PX).min() > 0.999


def test_texture_on_a_gradient_is_not_plain() -> None:
    rows, columns = np.mgrid[:24, :31]
    for texture in ((rows + columns) % 2, columns // 2 % 2, rows % 3 == 0):
        image = _plane(0.8, 0) + 3 * texture.astype(np.float32) / 255
        assert plainness(image, REACH_PX).max() < 0.001
    noise = np.random.default_rng(0).normal(size=(3, 24, 31)) / 255
    assert plainness(_plane(0.8, 0) + noise.astype(np.float32), REACH_PX).max() < 0.001


def test_a_kink_is_an_edge() -> None:
    up = _plane(4, 0)
    plain = plainness(np.concatenate([up, up[:, -2::-1]], 1), REACH_PX)[0, :, 15]
    # The steps into row 23 and out of it differ by eight levels.
    assert np.array_equal(plain < 0.5, np.abs(np.arange(47) - 22.5) < REACH_PX)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_a_line_of_pixels_may_be_plain(shape: tuple[int, int]) -> None:
    assert plainness(_plane(3, 2, *shape), REACH_PX).min() > 0.999


def test_a_gradient_comes_back() -> None:
    lr = _plane(2, 1, 20, 16)
    (result,) = with_plain_areas(iter([_noise(80, 64)]), lr, 4, REACH_PX)
    np.testing.assert_allclose(result, bicubic(lr, (80, 64)), atol=1e-3)


def test_one_colour_comes_back() -> None:
    lr = np.broadcast_to(np.float32([0, 1, 0.5]).reshape(3, 1, 1), (3, 9, 12))
    (result,) = with_plain_areas(iter([_noise(36, 48)]), lr, 4, REACH_PX)
    np.testing.assert_allclose(result, lr.repeat(4, 1).repeat(4, 2), atol=1e-6)


def test_texture_is_the_networks_and_strips_do_not_show() -> None:
    lr, network = _noise(20, 16), _noise(80, 64)
    lr[:, :, 8:] = 0.25
    lr[:, 9:, 8:] += np.float32(4 / 255) * np.arange(11, dtype=np.float32)[:, None]
    strips = np.split(network, [7, 40, 41], 1)
    result = np.concatenate(list(with_plain_areas(iter(strips), lr, 4, REACH_PX)), 1)
    assert np.array_equal(result[:, :, :32], network[:, :, :32])
    enlarged = bicubic(lr, (80, 64))
    for rows, by in ((slice(0, 20), 1e-6), (slice(60, 80), 1e-5)):
        np.testing.assert_allclose(result[:, rows, 56:], enlarged[:, rows, 56:], atol=by)
    (whole,) = with_plain_areas(iter([network]), lr, 4, REACH_PX)
    np.testing.assert_allclose(result, whole, atol=1e-6)
