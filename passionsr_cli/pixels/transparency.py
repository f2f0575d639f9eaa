"""Colours for pixels that show none, so that edges of what is transparent get no fringes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from passionsr_cli.pixels.arrays import Array, fused_add

# Below this share of opacity a stored colour is mostly rounding error, or anything at all.
TRUSTED_ALPHA = np.float32(1 / 8)
SMALLEST_WEIGHT = np.float32(1e-8)
ONE = np.float32(1)


def spread_colours(rgb: Array, alpha: Array) -> Array:
    """`rgb` (3, H, W) where transparent pixels have the colours around them.

    `alpha` is (1, H, W), both in [0, 1]. Colours spread weighted by opacity, as premultiplied
    resampling would mix them (pull-push, Gortler et al., The Lumigraph, section 3.4.2).
    """
    trust = np.minimum(alpha / TRUSTED_ALPHA, ONE)
    if (trust == 1).all() or not (alpha > 0).any():
        return rgb
    around = _pull_push(rgb * alpha, alpha)
    spread: Array = rgb * trust + around * (ONE - trust)
    return spread


def _pull_push(weighted: Array, weight: Array) -> Array:
    """Colours everywhere from colours times weights (3, H, W) and weights (1, H, W) in [0, 1]."""
    if weighted.shape[-1] == weighted.shape[-2] == 1:
        colours: Array = weighted / weight.clip(SMALLEST_WEIGHT)
        return colours
    sums, total = _halved(weighted), _halved(weight)
    saturated = np.minimum(total, ONE)
    mean: Array = sums * (saturated / total.clip(SMALLEST_WEIGHT))
    coarse = _pull_push(mean, saturated)
    rest = _enlarged(coarse, (weighted.shape[-2], weighted.shape[-1]))
    return weighted + (ONE - weight) * rest


def _halved(planes: Array) -> Array:
    """Sums over 2×2 pixels, or fewer at the bottom and right."""
    odd = [(0, 0), *((0, side % 2) for side in planes.shape[1:])]
    padded = np.pad(planes, odd)
    upper, lower = padded[:, ::2], padded[:, 1::2]
    result: Array = upper[..., ::2] + upper[..., 1::2] + lower[..., ::2] + lower[..., 1::2]
    return result


def _enlarged(planes: Array, size: tuple[int, int]) -> Array:
    """Bilinear, to (height, width), without aligned corners."""
    top, bottom, below = _neighbours(planes.shape[-2], size[0])
    left, right, beyond = _neighbours(planes.shape[-1], size[1])
    above, before = (ONE - below)[:, None], ONE - beyond
    below = below[:, None]
    upper, lower = planes[:, top], planes[:, bottom]
    result: Array = upper[..., right] * (above * beyond)
    result = fused_add(result, upper[..., left], above * before)
    result = fused_add(result, lower[..., left], below * before)
    return fused_add(result, lower[..., right], below * beyond)


def _neighbours(
    source: int, length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
    """The two source samples that each sample lies between, and the second one's share."""
    middle = np.arange(length).astype(np.float32) + np.float32(0.5)
    scale = float(np.float32(source) / np.float32(length))
    place = np.maximum(fused_add(-0.5, middle, scale), 0)
    first = np.minimum(place.astype(np.int64), source - 1)
    share = (place - first.astype(np.float32)).clip(0, 1)
    return first, np.minimum(first + 1, source - 1), share
