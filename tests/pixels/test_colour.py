from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from passionsr_cli.pixels import colour
from passionsr_cli.pixels.arrays import Array


def _random(*shape: int) -> Array:
    return np.random.default_rng(0).random(shape, np.float32)


def _wavelet_low(plane: np.ndarray) -> np.ndarray:
    """Five à-trous levels by scipy, in float64."""
    for level in range(5):
        kernel = np.zeros(2 * 2**level + 1)
        kernel[[0, 2**level, -1]] = 0.25, 0.5, 0.25
        for axis in (0, 1):
            plane = ndimage.convolve1d(plane, kernel, axis=axis, mode="nearest")
    return plane


def test_low_frequencies_are_five_wavelet_levels() -> None:
    image = _random(3, 70, 90)
    expected = np.stack([_wavelet_low(plane) for plane in image.astype(np.float64)])
    assert np.abs(colour.low_frequencies(image) - expected).max() < 1e-5


@pytest.mark.parametrize("strip_px", [7, 100, 1100])
def test_wavelet_fix_keeps_detail_and_takes_colour(strip_px: int) -> None:
    image, reference = _random(2, 3, 1100, 70)
    strips = np.split(image, range(strip_px, 1100, strip_px), -2)
    fixed = colour.replace_low_frequencies(strips, 1100, lambda rows: reference[:, slice(*rows)])
    expected = np.stack(
        [
            a - _wavelet_low(a) + _wavelet_low(b)
            for a, b in zip(image.astype(np.float64), reference.astype(np.float64), strict=True)
        ]
    )
    assert np.abs(np.concatenate(list(fixed), -2) - expected).max() < 1e-5


def test_moments_of_strips_are_numpys_of_the_whole() -> None:
    image = _random(3, 1000, 300) * 0.01 + 0.9
    found = colour.moments(np.split(image, range(77, 1000, 77), -2))
    values = image.astype(np.float64)
    assert np.abs(found.mean.ravel() - values.mean((1, 2))).max() < 1e-6
    deviation = np.sqrt(values.var((1, 2), ddof=1) + 1e-5)
    assert np.abs(found.deviation.ravel() / deviation - 1).max() < 1e-5


def test_adain_matches_mean_and_deviation() -> None:
    image, reference = _random(3, 40, 50) * 0.2, _random(3, 10, 12) * 0.6 + 0.3
    fixed = colour.match_moments(image, colour.moments([image]), colour.moments([reference]))
    np.testing.assert_allclose(fixed.mean((1, 2)), reference.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(fixed.std((1, 2), ddof=1), reference.std((1, 2), ddof=1), rtol=2e-3)


def test_adain_of_an_image_with_itself_changes_nothing() -> None:
    image = _random(3, 40, 50)
    own = colour.moments([image])
    np.testing.assert_allclose(colour.match_moments(image, own, own), image, rtol=1e-5)


def test_adain_of_one_colour_is_finite() -> None:
    image, reference = np.full((3, 8, 8), 0.5, np.float32), _random(3, 8, 8)
    fixed = colour.match_moments(image, colour.moments([image]), colour.moments([reference]))
    np.testing.assert_allclose(fixed.mean((1, 2)), reference.mean((1, 2)), rtol=1e-5)
