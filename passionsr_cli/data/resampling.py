"""Bicubic resampling of tensors, for what learns."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """`image` (B, C, H, W) resampled to (height, width), unclamped, differentiable.

    As Pillow does it (a = −0.5) and as `pixels.resampling.bicubic` does it for arrays: torch's
    own upsampling without antialiasing uses a = −0.75, which the published models never saw.
    """
    return F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
