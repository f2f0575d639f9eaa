"""Resampling and padding of image tensors."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Literal["bicubic", "lanczos"]
REACH_PX: dict[Kernel, float] = {"bicubic": 2, "lanczos": 3}


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


def source_span(
    rows: tuple[int, int], height: int, source_height: int, reach: float
) -> tuple[int, int]:
    """The source rows that `rows` of an image of `height` rows are resampled from.

    `reach` is the kernel's half width in pixels of the coarser of the two images.
    """
    step = source_height / height
    context = reach * max(1.0, step) + 1
    first = max(0, math.floor(rows[0] * step - context))
    return first, min(source_height, math.ceil(rows[1] * step + context))


def resample_rows(
    window: Tensor,
    first: int,
    source_height: int,
    size: tuple[int, int],
    rows: tuple[int, int],
    kernel: Kernel,
) -> Tensor:
    """Rows of an image resampled to `size` (height, width) by Pillow, antialiased, unclamped.

    `window` (C, h, w) holds the source rows from `first` on that `source_span` names; what comes
    out is (C, rows, width), the same as from the whole source.
    """
    from PIL import Image

    step = source_height / size[0]
    box = (0, rows[0] * step - first, window.shape[-1], rows[1] * step - first)
    # Kernels end at the window, which has their context, and not at the box.
    box = (*box[:3], min(box[3], window.shape[-2]))
    planes = [
        np.asarray(
            Image.fromarray(plane.numpy()).resize(
                (size[1], rows[1] - rows[0]), getattr(Image.Resampling, kernel.upper()), box
            )
        )
        for plane in window.contiguous()
    ]
    return torch.from_numpy(np.stack(planes))


def resampled_rows(
    image: Tensor, size: tuple[int, int], rows: tuple[int, int], kernel: Kernel
) -> Tensor:
    """Rows of a whole image (C, h, w) resampled to `size` (height, width)."""
    height = image.shape[-2]
    first, last = source_span(rows, size[0], height, REACH_PX[kernel])
    return resample_rows(image[:, first:last], first, height, size, rows, kernel)
