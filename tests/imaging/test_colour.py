from __future__ import annotations

import numpy as np
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


def test_wavelet_fix_keeps_detail_and_takes_colour() -> None:
    image, reference = torch.rand(2, 3, 1100, 70, generator=torch.manual_seed(0))
    fixed = colour.replace_low_frequencies(image, reference).double()
    expected = np.stack(
        [
            a - _wavelet_low(a) + _wavelet_low(b)
            for a, b in zip(image.double().numpy(), reference.double().numpy(), strict=True)
        ]
    )
    assert np.abs(fixed.numpy() - expected).max() < 1e-5


def test_adain_matches_mean_and_deviation() -> None:
    image, reference = torch.rand(3, 40, 50) * 0.2, torch.rand(3, 10, 12) * 0.6 + 0.3
    fixed = colour.match_mean_and_deviation(image, reference)
    torch.testing.assert_close(fixed.mean((1, 2)), reference.mean((1, 2)))
    torch.testing.assert_close(fixed.std((1, 2)), reference.std((1, 2)))


def test_adain_of_an_image_with_itself_changes_nothing() -> None:
    image = torch.rand(3, 40, 50)
    torch.testing.assert_close(colour.match_mean_and_deviation(image, image), image)
