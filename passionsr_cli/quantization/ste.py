"""Rounding and clamping that let gradients through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _RoundThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def round_through(x: Tensor) -> Tensor:
    """`x` rounded half to even, with the gradient of the identity (arXiv 1308.3432).

    The result is whole to the last bit, which x + (round(x) − x) in float32 is not.
    """
    rounded: Tensor = _RoundThrough.apply(x)
    return rounded


class _ClampReturning(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lowest: float, highest: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = (lowest, highest)
        return x.clamp(lowest, highest)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,), (lowest, highest) = ctx.saved_tensors, ctx.limits
        leaves = ((x < lowest) & (gradient > 0)) | ((x > highest) & (gradient < 0))
        return gradient.masked_fill(leaves, 0), None, None


def clamp_returning(x: Tensor, lowest: float, highest: float) -> Tensor:
    """`x` clamped, with the gradient of the identity unless descending it leads further out.

    A parameter at a limit, or beyond it, still learns its way back; torch's clamp stops it there.
    """
    clamped: Tensor = _ClampReturning.apply(x, lowest, highest)
    return clamped
