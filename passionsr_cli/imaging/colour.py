"""Colour fixes: the output's colours brought back to the input's, over the whole image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from passionsr_cli.imaging.strips import RowStream, spans

WAVELET_LEVELS = 5
# Five à-trous levels reach 1 + 2 + 4 + 8 + 16 pixels.
WAVELET_REACH_PX = 2**WAVELET_LEVELS - 1
# Higher strips spend a smaller share of the work on their surroundings.
BAND_PX = 256


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation (3, 1, 1) of each channel of an image."""

    mean: Tensor
    deviation: Tensor


def moments(strips: Iterable[Tensor]) -> Moments:
    """Those of a whole image from its strips (C, h, W)."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for strip in strips:
        # float64: a float32 mean over 100 megapixels loses digits.
        values = strip.double()
        count += values.shape[-1] * values.shape[-2]
        total = total + values.sum((1, 2), keepdim=True)
        squares = squares + values.square().sum((1, 2), keepdim=True)
    mean = total / count
    variance = (squares - count * mean.square()) / max(1, count - 1)
    return Moments(mean.float(), variance.clamp_min(0).sqrt().float())


def match_moments(image: Tensor, found: Moments, wanted: Moments) -> Tensor:
    """`image` (C, H, W), or a strip of one with the moments `found`, with those `wanted`.

    Adaptive instance normalisation (arXiv 1703.06868) on colours, as StableSR and OSEDiff
    use it. Moments are those of whole images, so the image must be there twice: it cannot be
    written while it is made.
    """
    return (image - found.mean) * (wanted.deviation / found.deviation.clamp_min(1e-5)) + wanted.mean


def replace_low_frequencies(
    strips: Iterable[Tensor], height: int, reference: Callable[[tuple[int, int]], Tensor]
) -> Iterator[Tensor]:
    """An image's fine wavelet levels on a reference's coarse rest, in strips (C, h, W).

    `strips` of any heights are the image of `height` rows; `reference` gives the rows (first,
    last) of the other, of the same size. Five à-trous levels with the 3×3 binomial kernel,
    borders replicated, as in StableSR. Each strip needs 31 rows to both sides.
    """
    stream = RowStream(strips)
    for top, bottom in spans(height, BAND_PX):
        first, last = max(0, top - WAVELET_REACH_PX), min(height, bottom + WAVELET_REACH_PX)
        window = stream.window(first, last)
        coarse = low_frequencies(reference((first, last)) - window)
        kept = slice(top - first, bottom - first)
        yield window[:, kept] + coarse[:, kept]


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
