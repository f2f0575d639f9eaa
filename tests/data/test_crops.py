"""Crops and their partners, against scipy's filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Generator

from passionsr_cli.config import DegradationSettings
from passionsr_cli.data.crops import Crop, degraded_crop, soften
from passionsr_cli.imaging import samples

UNHARMED = DegradationSettings(
    blur_probability=0, second_order_probability=0, noise_probability=0, jpeg_probability=0
)


@pytest.mark.parametrize("sigma", [0.4, 1.1])
def test_softness_is_a_gaussian(sigma: float) -> None:
    image = torch.from_numpy(samples.high_resolution("sample:astronaut")[:, :96, :80])
    found = soften(image, (sigma, sigma), Generator()).numpy()
    expected = [ndimage.gaussian_filter(plane, sigma, mode="mirror") for plane in image.numpy()]
    assert np.abs(found - np.stack(expected)).max() < 2e-3


def test_softness_has_every_sigma_of_its_range_and_none_at_zero() -> None:
    image = torch.zeros(3, 33, 33)
    image[:, 16, 16] = 1
    assert soften(image, (0.0, 0.0), Generator()) is image
    generator = Generator().manual_seed(0)
    # Of a Gaussian, the largest value is 1 / (2 π σ²).
    peaks = [float(soften(image, (0.6, 1.2), generator).max()) for _ in range(50)]
    sigmas = np.sqrt(1 / (2 * np.pi * np.array(peaks)))
    assert sigmas.min() == pytest.approx(0.6, abs=0.05)
    assert sigmas.max() == pytest.approx(1.2, abs=0.05)


def test_both_partners_are_softer() -> None:
    photograph = torch.zeros(3, 160, 160, dtype=torch.uint8)
    photograph[:, ::16] = 255

    def crop(softness_px: tuple[float, float]) -> Crop:
        generator = Generator().manual_seed(1)
        return degraded_crop(photograph, "lines", 64, 4, UNHARMED, generator, softness_px)

    crisp, soft = crop((0.0, 0.0)), crop((3.0, 3.0))
    for sharp, blurred in ((crisp.hr, soft.hr), (crisp.lr, soft.lr)):
        assert blurred.shape == sharp.shape
        assert float(blurred.std()) < 0.8 * float(sharp.std())
    assert torch.equal(soft.crisp, crisp.hr)
