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


def test_one_colour_comes_back() -> None:
    lr = np.broadcast_to(np.float32([0, 1, 0.5]).reshape(3, 1, 1), (3, 9, 12))
    (result,) = with_plain_areas(iter([_noise(36, 48)]), lr, 4, REACH_PX)
    np.testing.assert_allclose(result, lr.repeat(4, 1).repeat(4, 2), atol=1e-6)


def test_texture_is_the_networks_and_strips_do_not_show() -> None:
    lr, network = _noise(20, 16), _noise(80, 64)
    lr[:, :, 8:] = 0.25
    strips = np.split(network, [7, 40, 41], 1)
    result = np.concatenate(list(with_plain_areas(iter(strips), lr, 4, REACH_PX)), 1)
    assert np.array_equal(result[:, :, :32], network[:, :, :32])
    enlarged = bicubic(lr, (80, 64))
    np.testing.assert_allclose(result[:, :, 56:], enlarged[:, :, 56:], atol=1e-6)
    (whole,) = with_plain_areas(iter([network]), lr, 4, REACH_PX)
    np.testing.assert_allclose(result, whole, atol=1e-6)
