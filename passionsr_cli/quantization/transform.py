"""Learnable equivalent transformation (LET, PassionSR, arXiv 2411.17106).

Per input channel c a scale s > 0 and a shift δ move what is hard to quantize from activations
to weights without changing the product:

    X̃ = (X − δ) / s      W̃ = s ⊙ W      b̃ = b + W δ      X̃ W̃ + b̃ = X W + b
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from passionsr_cli.quantization.affine import SMALLEST_RANGE

Bounds = tuple[Tensor, Tensor]


class ChannelTransform(nn.Module):
    """Scale and shift of each input channel of one layer; the identity until `start`.

    The scale is learned as its logarithm, so that it stays positive, the shift in units of the
    channel's extent: both then take one learning rate for all channels.
    """

    shift_unit: Tensor

    def __init__(self, channels: int, shifts: bool) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift_ratio = nn.Parameter(torch.zeros(channels)) if shifts else None
        self.register_buffer("shift_unit", torch.ones(channels))

    @torch.no_grad()
    def start(self, activation: Tensor, weight: Tensor, exponent: float) -> None:
        """s = max|X|^a / max|W|^a, δ = 0, from each channel's largest magnitudes."""
        activation = activation.clamp_min(SMALLEST_RANGE)
        self.log_scale.copy_(exponent * (activation / weight.clamp_min(SMALLEST_RANGE)).log())
        self.shift_unit.copy_(activation)

    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def shift(self) -> Tensor | None:
        return None if self.shift_ratio is None else self.shift_ratio * self.shift_unit


class Split(nn.Module):
    """The boundary inside a concatenated input whose two parts have different ranges.

    Each part has its own grid while bounds are found; `fold` turns the second part's grid into
    a further scale r and shift d of its channels, so that one grid serves both:
    (X̃₁ − d)/r is quantized on the grid of X̃₀. With step sizes Δ and zero points z of the two,
    r = Δ₁/Δ₀ and d = Δ₁(z₀ − z₁); without a shift z₀ = z₁ and d = 0. Steps of a symmetric grid
    follow from the largest magnitude.
    """

    def __init__(self, boundary: int, shifts: bool, symmetric: bool = False) -> None:
        super().__init__()
        self.boundary, self.symmetric = boundary, symmetric
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(())) if shifts else None

    def fold(self, first: Bounds, second: Bounds) -> tuple[Tensor, Tensor | None, Bounds]:
        """(r, d, bounds of the common grid) from the bounds of both parts; differentiable."""
        (lower0, upper0), (lower1, upper1) = first, second
        if self.symmetric and self.shift is None:
            size0, size1 = extent(first), extent(second)
        else:
            size0, size1 = upper0 - lower0, upper1 - lower1
        ratio = size1.clamp_min(SMALLEST_RANGE) / size0.clamp_min(SMALLEST_RANGE)
        if self.shift is not None:
            return ratio, lower1 - ratio * lower0, first
        lower = torch.minimum(lower0, lower1 / ratio)
        return ratio, None, (lower, torch.maximum(upper0, upper1 / ratio))

    @torch.no_grad()
    def start(self, first: Bounds, second: Bounds) -> Bounds:
        """Fold both grids into one and return its bounds; r and d learn on from there."""
        ratio, shift, bounds = self.fold(first, second)
        self.log_scale.copy_(ratio.log())
        if self.shift is not None and shift is not None:
            self.shift.copy_(shift)
        return bounds

    def folded(self, scale: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The channels' scale and shift with the learned r and d in them."""
        return self.combine(scale, shift, self.log_scale.exp(), self.shift)

    def combine(
        self, scale: Tensor, shift: Tensor | None, ratio: Tensor, offset: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """s' = s·r and δ' = δ + s·d in the second part, s and δ in the first."""
        at = self.boundary
        if offset is not None:
            before = torch.zeros_like(scale) if shift is None else shift
            shift = torch.cat([before[:at], before[at:] + scale[at:] * offset])
        return torch.cat([scale[:at], scale[at:] * ratio]), shift


def transformed_bounds(observed: Bounds, scale: Tensor, shift: Tensor | None) -> Bounds:
    """Bounds of each channel of X̃ from those of X."""
    lower, upper = observed
    if shift is None:
        return lower / scale, upper / scale
    return (lower - shift) / scale, (upper - shift) / scale


def extent(bounds: Bounds) -> Tensor:
    """The largest magnitude between bounds."""
    return torch.maximum(-bounds[0], bounds[1])
