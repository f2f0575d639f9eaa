"""Resampling and padding of image tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic resampling to (height, width), as Pillow does it (a = −0.5), unclamped.

    `image` is (B, C, H, W). torch's own upsampling without antialiasing uses a = −0.75,
    which the published models never saw.
    """
    return F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)


def pad_reflecting(image: Tensor, height: int, width: int) -> Tensor:
    """`image` (..., H, W) extended at the bottom and right by reflection, to any larger size."""
    rows = _reflected(image.shape[-2], height, image.device)
    columns = _reflected(image.shape[-1], width, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def _reflected(length: int, padded: int, device: torch.device) -> Tensor:
    """Indices 0 … length−1 … 0 … of a signal mirrored at its border pixels again and again."""
    if length == 1:
        return torch.zeros(padded, dtype=torch.long, device=device)
    period = 2 * (length - 1)
    index = torch.arange(padded, device=device) % period
    return torch.where(index < length, index, period - index)


def lanczos(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """Lanczos (a = 3) resampling of one plane (1, H, W) to (height, width), by Pillow."""
    import numpy as np
    from PIL import Image

    image = Image.fromarray(plane[0].numpy())
    resized = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized)).unsqueeze(0)
