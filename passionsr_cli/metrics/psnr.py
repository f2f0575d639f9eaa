"""PSNR: how near images are to others, in decibels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def psnr(image: Tensor, reference: Tensor) -> float:
    """PSNR in dB of images to references of the same shape, both in [0, 1], over all their values;
    infinite where they are equal."""
    return float(-10 * (image - reference).square().mean().log10())


def decibels(mean_squared_error: float) -> float:
    """PSNR in dB of a mean squared error on the [0, 1] scale, above 0."""
    return -10 * math.log10(mean_squared_error)
