from __future__ import annotations

import pyiqa
import pytest
import torch
import torch.nn.functional as F

from passionsr_cli.metrics.ssim import filter_valid, hasten


def test_the_filter_is_a_convolution() -> None:
    torch.manual_seed(0)
    image, window = torch.rand(2, 1, 20, 31).double(), torch.rand(1, 1, 11, 5).double()
    expected = F.conv2d(image, window)
    assert torch.allclose(filter_valid(image, window, "valid"), expected, rtol=1e-14, atol=0)


def test_the_number_is_pyiqas_and_pyiqa_stays_as_it_is() -> None:
    torch.manual_seed(0)
    options = {"test_y_channel": True, "color_space": "ycbcr"}
    plain, fast = (pyiqa.create_metric("ssim", device="cpu", **options) for _ in range(2))
    reference = torch.rand(1, 3, 60, 80)
    image = (reference + 0.1 * torch.randn(reference.shape)).clamp(0, 1)
    expected = float(plain(image, reference))
    hasten(fast.net)
    assert float(fast(image, reference)) == pytest.approx(expected, rel=1e-13)
    assert float(plain(image, reference)) == expected
    assert fast.net.forward.__func__ is not plain.net.forward.__func__
