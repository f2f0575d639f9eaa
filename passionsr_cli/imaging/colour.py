"""Colour fixes: the output's colours brought back to the input's, over the whole image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WAVELET_LEVELS = 5
# Five à-trous levels reach 1 + 2 + 4 + 8 + 16 pixels.
WAVELET_REACH_PX = 2**WAVELET_LEVELS - 1
BAND_PX = 512


def match_mean_and_deviation(image: Tensor, reference: Tensor) -> Tensor:
    """`image` (C, H, W) with each channel's mean and standard deviation taken from `reference`.

    Adaptive instance normalisation (arXiv 1703.06868) on colours, as StableSR and OSEDiff
    use it. The two images may differ in size.
    """
    mean, deviation = _moments(image)
    wanted_mean, wanted_deviation = _moments(reference)
    return (image - mean) * (wanted_deviation / deviation.clamp_min(1e-5)) + wanted_mean


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    # float64: a float32 mean over 100 megapixels loses digits.
    values = image.double()
    mean = values.mean((1, 2), keepdim=True)
    deviation = values.std((1, 2), keepdim=True)
    return mean.float(), deviation.float()


def replace_low_frequencies(image: Tensor, reference: Tensor) -> Tensor:
    """`image`'s fine wavelet levels on `reference`'s coarse rest, both (C, H, W).

    Five à-trous levels with the 3×3 binomial kernel, borders replicated, as in StableSR.
    Works in bands of rows: memory beyond the result is small.
    """
    result = torch.empty_like(image)
    height = image.shape[-2]
    for top in range(0, height, BAND_PX):
        bottom = min(height, top + BAND_PX)
        first, last = max(0, top - WAVELET_REACH_PX), min(height, bottom + WAVELET_REACH_PX)
        difference = reference[:, first:last] - image[:, first:last]
        coarse = low_frequencies(difference)
        kept = slice(top - first, bottom - first)
        result[:, top:bottom] = image[:, top:bottom] + coarse[:, kept]
    return result


def low_frequencies(image: Tensor) -> Tensor:
    """What remains of `image` (C, H, W) below five à-trous wavelet levels."""
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=image.dtype, device=image.device)
    planes = image.unsqueeze(1)
    for level in range(WAVELET_LEVELS):
        step = 2**level
        padded = F.pad(planes, (step,) * 4, mode="replicate")
        planes = F.conv2d(padded, kernel.view(1, 1, 1, 3), dilation=step)
        planes = F.conv2d(planes, kernel.view(1, 1, 3, 1), dilation=step)
    return planes.squeeze(1)
