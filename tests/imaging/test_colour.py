from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from passionsr_cli.imaging import colour


def _wavelet_low(plane: np.ndarray) -> np.ndarray:
    """Five à-trous levels by scipy, in float64."""
    for level in range(5):
        kernel = np.zeros(2 * 2**level + 1)
        kernel[[0, 2**level, -1]] = 0.25, 0.5, 0.25
        for axis in (0, 1):
            plane = ndimage.convolve1d(plane, kernel, axis=axis, mode="nearest")
    return plane


def test_low_frequencies_are_five_wavelet_levels() -> None:
    image = torch.rand(3, 70, 90, generator=torch.manual_seed(0))
    expected = np.stack([_wavelet_low(plane) for plane in image.double().numpy()])
    assert np.abs(colour.low_frequencies(image).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("strip_px", [7, 100, 1100])
def test_wavelet_fix_keeps_detail_and_takes_colour(strip_px: int) -> None:
    image, reference = torch.rand(2, 3, 1100, 70, generator=torch.manual_seed(0))
    strips = image.split(strip_px, -2)
    fixed = colour.replace_low_frequencies(strips, 1100, lambda rows: reference[:, slice(*rows)])
    expected = np.stack(
        [
            a - _wavelet_low(a) + _wavelet_low(b)
            for a, b in zip(image.double().numpy(), reference.double().numpy(), strict=True)
        ]
    )
    assert np.abs(torch.cat(list(fixed), -2).double().numpy() - expected).max() < 1e-5


def test_moments_of_strips_are_numpys_of_the_whole() -> None:
    image = torch.rand(3, 1000, 300, generator=torch.manual_seed(0)) * 0.001 + 0.9
    found = colour.moments(image.split(77, -2))
    values = image.double().numpy()
    assert np.abs(found.mean.numpy().ravel() - values.mean((1, 2))).max() < 1e-6
    assert np.abs(found.deviation.numpy().ravel() / values.std((1, 2), ddof=1) - 1).max() < 1e-5


def test_adain_matches_mean_and_deviation() -> None:
    image, reference = torch.rand(3, 40, 50) * 0.2, torch.rand(3, 10, 12) * 0.6 + 0.3
    fixed = colour.match_moments(image, colour.moments([image]), colour.moments([reference]))
    torch.testing.assert_close(fixed.mean((1, 2)), reference.mean((1, 2)))
    torch.testing.assert_close(fixed.std((1, 2)), reference.std((1, 2)))


def test_adain_of_an_image_with_itself_changes_nothing() -> None:
    image = torch.rand(3, 40, 50)
    own = colour.moments([image])
    torch.testing.assert_close(colour.match_moments(image, own, own), image)


def test_adain_of_one_colour_is_finite() -> None:
    image, reference = torch.full((3, 8, 8), 0.5), torch.rand(3, 8, 8)
    fixed = colour.match_moments(image, colour.moments([image]), colour.moments([reference]))
    torch.testing.assert_close(fixed.mean((1, 2)), reference.mean((1, 2)))
