"""Affine quantization between two bounds (PassionSR, arXiv 2411.17106).

A scheme says which integers there are; bounds l ≤ 0 ≤ u say which reals they stand for:

    asymmetric   scale = (u − l) / (2^b − 1)     zero_point = −round(l / scale)
    symmetric    scale = max(−l, u) / (2^(b−1) − 1)       zero_point = 0
    q = clamp(round(x · (1 / scale)) + zero_point, quant_min, quant_max)
    x̂ = (q − zero_point) · scale

Everything is float32: rounding an input to bf16 first would change up to a sixth of the codes. As
in torch's kernels a value is multiplied by the reciprocal; a quotient is rounded another way now
and then.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from passionsr_cli.quantization.schemes import Scheme
from passionsr_cli.quantization.ste import round_through

# Bounds closer together than this stand for a tensor that is constant zero.
SMALLEST_RANGE = 1e-8


@dataclass(frozen=True)
class Grid:
    """The reals a scheme's integers stand for: one scale and zero point, or one per channel.

    `zero_point` is a float tensor of whole numbers, so that gradients reach the bounds.
    """

    scheme: Scheme
    scale: Tensor
    zero_point: Tensor

    def nudged_bounds(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest real that can be represented; 0 always can."""
        low = (self.scheme.quant_min - self.zero_point) * self.scale
        return low, (self.scheme.quant_max - self.zero_point) * self.scale


def grid_between(lower: Tensor, upper: Tensor, scheme: Scheme) -> Grid:
    """The grid of bounds, shaped () or (channels,); gradients reach both.

    Bounds that left l ≤ 0 ≤ u are brought back. A symmetric scheme's reach as far on both sides.
    """
    lower, upper = lower.float(), upper.float()
    if scheme.symmetric:
        upper = torch.maximum(-lower, upper)
    # Not clamp, which has no gradient where a bound lies at its limit.
    upper = torch.where(upper < SMALLEST_RANGE, SMALLEST_RANGE, upper)
    if scheme.symmetric:
        return Grid(scheme, upper / scheme.quant_max, torch.zeros_like(upper))
    lower = torch.where(lower > 0, 0, lower)
    scale = (upper - lower) / scheme.quant_max
    # Without bounds that are numbers the scale is none, which is enough to spoil the result;
    # the kernels refuse such a zero point.
    return Grid(scheme, scale, torch.nan_to_num(-round_through(lower / scale)))


def quantize(x: Tensor, grid: Grid) -> Tensor:
    """The integers of `x`, int16 (asymmetric 8 bits and their differences fit)."""
    _, zero_point = along_channels(x, grid)
    # In place: of a large weight each copy more takes longer than the arithmetic.
    q = in_steps(x, grid).round_().add_(zero_point)
    return q.clamp_(grid.scheme.quant_min, grid.scheme.quant_max).to(torch.int16)


def in_steps(x: Tensor, grid: Grid) -> Tensor:
    """`x` in steps of its grid, before it is rounded; float32."""
    scale, _ = along_channels(x, grid)
    return x.float() * (1 / scale)


def dequantize(q: Tensor, grid: Grid) -> Tensor:
    """The float32 reals that integers stand for."""
    scale, zero_point = along_channels(q, grid)
    return (q - zero_point) * scale


def fake_quantize(x: Tensor, grid: Grid, gradient_factor: float = 1.0) -> Tensor:
    """`x` rounded to its grid, float32, differentiable in `x` and in the grid's bounds.

    torch's fused kernels: straight-through inside the bounds, and where a value is clipped the
    gradient goes to the bound that clipped it (LSQ+, arXiv 2004.09576). The grid's gradient is
    multiplied by `gradient_factor`. Where any value of `x` is NaN or infinite, all become NaN.
    """
    scheme, zero_point = grid.scheme, grid.zero_point
    # The kernels would make a finite number of NaN, and no loss could tell.
    scale = grid.scale + 0 * x.detach().float().sum()
    limits = (scheme.quant_min, scheme.quant_max)
    fused: Tensor
    if scheme.channel_axis is None:
        fused = torch._fake_quantize_learnable_per_tensor_affine(
            x.float(), scale.reshape(1), zero_point.reshape(1), *limits, gradient_factor
        )
    else:
        fused = torch._fake_quantize_learnable_per_channel_affine(
            x.float(), scale, zero_point, scheme.channel_axis, *limits, gradient_factor
        )
    return fused


def along_channels(x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """A grid's scale and zero point, shaped to multiply `x`."""
    axis = grid.scheme.channel_axis
    if axis is None:
        return grid.scale, grid.zero_point
    shape = [1] * x.dim()
    shape[axis] = -1
    return grid.scale.reshape(shape), grid.zero_point.reshape(shape)
