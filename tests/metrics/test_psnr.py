from __future__ import annotations

import math

import pytest
import torch

from passionsr_cli.metrics.psnr import decibels, psnr


def test_psnr_is_that_of_the_mean_squared_error_of_all_values() -> None:
    reference = torch.zeros(2, 3, 4, 4)
    image = reference.clone()
    image[0] = 0.1
    # Half the values are off by a tenth: a mean square of 0.005.
    assert psnr(image, reference) == pytest.approx(-10 * math.log10(0.005), rel=1e-6)
    assert psnr(reference, reference) == math.inf


def test_decibels_of_known_errors() -> None:
    assert [decibels(error) for error in (1.0, 0.1, 1e-4)] == pytest.approx([0, 10, 40])
