"""pyiqa's SSIM, with its window applied in a faster way.

pyiqa filters in float64, for which torch's convolution first lays all 121 shifts of the image
beside each other in memory. Adding them up one by one computes the same sums in an eighth of the
time; only their order differs, and with it the last bits of a float64.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor


def hasten(network: Any) -> None:
    """Give this one SSIM network of pyiqa, which sees the luma alone, the faster filter."""
    from pyiqa.archs import ssim_arch

    ssim = _with(ssim_arch.ssim, filter2=filter_valid)
    network.forward = MethodType(_with(ssim_arch.SSIM.forward, ssim=ssim), network)


def _with(function: Any, **globals_: Callable[..., Any]) -> FunctionType:
    """The same code, in which some global names mean something else."""
    return FunctionType(
        function.__code__,
        {**function.__globals__, **globals_},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def filter_valid(image: Tensor, window: Tensor, shape: str) -> Tensor:
    """Correlation of planes (B, 1, H, W) with a window (1, 1, h, w), where it fits whole."""
    assert shape == "valid"
    assert image.shape[1] == 1
    height, width = window.shape[-2:]
    rows, columns = image.shape[-2] - height + 1, image.shape[-1] - width + 1
    total = torch.zeros(*image.shape[:2], rows, columns, dtype=image.dtype, device=image.device)
    for top, line in enumerate(window[0, 0].tolist()):
        for left, weight in enumerate(line):
            total.add_(image[..., top : top + rows, left : left + columns], alpha=weight)
    return total
