"""Colours for pixels that show none, so that edges of what is transparent get no fringes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Below this share of opacity a stored colour is mostly rounding error, or anything at all.
TRUSTED_ALPHA = 1 / 8


def spread_colours(rgb: Tensor, alpha: Tensor) -> Tensor:
    """`rgb` (3, H, W) where transparent pixels have the colours around them.

    `alpha` is (1, H, W), both in [0, 1]. Colours spread weighted by opacity, as premultiplied
    resampling would mix them (pull-push, Gortler et al., The Lumigraph, section 3.4.2).
    """
    trust = (alpha / TRUSTED_ALPHA).clamp(max=1)
    if bool((trust == 1).all()) or not bool((alpha > 0).any()):
        return rgb
    around = _pull_push(rgb * alpha, alpha)
    return rgb * trust + around * (1 - trust)


def _pull_push(weighted: Tensor, weight: Tensor) -> Tensor:
    """Colours everywhere from colours times weights (3, H, W) and weights (1, H, W) in [0, 1]."""
    if weighted.shape[-1] == weighted.shape[-2] == 1:
        return weighted / weight.clamp_min(1e-8)
    sums, total = _halved(weighted), _halved(weight)
    saturated = total.clamp(max=1)
    coarse = _pull_push(sums * (saturated / total.clamp_min(1e-8)), saturated)
    size = (weighted.shape[-2], weighted.shape[-1])
    rest = F.interpolate(coarse[None], size, mode="bilinear", align_corners=False)[0]
    return weighted + (1 - weight) * rest


def _halved(planes: Tensor) -> Tensor:
    """Sums over 2×2 pixels, or fewer at the bottom and right."""
    return F.avg_pool2d(planes, 2, ceil_mode=True, divisor_override=1)
