"""Colour fixes: the output's colours brought back to the input's, over the whole image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.strips import RowStream, spans

WAVELET_LEVELS = 5
# Five à-trous levels reach 1 + 2 + 4 + 8 + 16 pixels.
WAVELET_REACH_PX = 2**WAVELET_LEVELS - 1
# Of values in [0, 1]; what is nearly of one colour keeps its noise as it is.
LEAST_VARIANCE = 1e-5
# Higher strips spend a smaller share of the work on their surroundings.
BAND_PX = 256


@dataclass(frozen=True)
class Moments:
    """Mean and deviation (3, 1, 1) of each channel of an image: the root of its variance and
    `LEAST_VARIANCE`."""

    mean: Array
    deviation: Array


def moments(strips: Iterable[Array]) -> Moments:
    """Those of a whole image from its strips (C, h, W)."""
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for strip in strips:
        # float64: a float32 mean over 100 megapixels loses digits.
        values = strip.astype(np.float64)
        count += values.shape[-1] * values.shape[-2]
        total = total + values.sum((1, 2), keepdims=True)
        squares = squares + np.square(values).sum((1, 2), keepdims=True)
    mean = total / count
    variance = (squares - count * np.square(mean)) / max(1, count - 1)
    deviation = np.sqrt(variance.clip(0) + LEAST_VARIANCE)
    return Moments(mean.astype(np.float32), deviation.astype(np.float32))


def match_moments(image: Array, found: Moments, wanted: Moments) -> Array:
    """`image` (C, H, W), or a strip of one with the moments `found`, with those `wanted`.

    Adaptive instance normalisation (arXiv 1703.06868) on colours, as StableSR and OSEDiff
    use it: on a result in [0, 1], with the moments of the input enlarged to its size. Moments
    are those of whole images, so the image must be there twice: it cannot be written while it
    is made.
    """
    matched: Array = (image - found.mean) * (wanted.deviation / found.deviation) + wanted.mean
    return matched


def replace_low_frequencies(
    strips: Iterable[Array], height: int, reference: Callable[[tuple[int, int]], Array]
) -> Iterator[Array]:
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


def low_frequencies(image: Array) -> Array:
    """Low frequencies of `image` (C, H, W), below five à-trous wavelet levels."""
    for level in range(WAVELET_LEVELS):
        step = 2**level
        padded = np.pad(image, ((0, 0), (step, step), (step, step)), mode="edge")
        image = _binomial(_binomial(padded, step).swapaxes(1, 2), step).swapaxes(1, 2)
    return image


def _binomial(image: Array, step: int) -> Array:
    """(1, 2, 1) / 4 along the last axis, whose `step` values at both ends are context."""
    length = image.shape[-1] - 2 * step
    left, middle, right = (image[..., k * step : k * step + length] for k in range(3))
    quarter, half = np.float32(0.25), np.float32(0.5)
    result: Array = left * quarter + middle * half + right * quarter
    return result
