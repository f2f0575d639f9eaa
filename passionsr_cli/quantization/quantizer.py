"""Quantizers of one tensor: with bounds that learn, and with a grid that is fixed."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from passionsr_cli.errors import FitError
from passionsr_cli.quantization.affine import SMALLEST_RANGE, Grid, fake_quantize, grid_between
from passionsr_cli.quantization.schemes import Scheme
from passionsr_cli.quantization.ste import clamp_returning


class Quantizer(nn.Module):
    """Learnable boundary quantizer (LBQ, PassionSR, arXiv 2411.17106).

    `start` gives it bounds; from then on it quantizes, differentiably in both. They are learned
    as multiples of the range they started from, so that one learning rate suits every tensor of
    a model. Before `start` its grid does not exist, and asking for it raises `FitError`.

    `channels` is a weight's number of output channels, 0 for activations (B, …). With
    `scaled_gradient` the grid's gradient is multiplied by LSQ's g = 1/√(N·q_max) (arXiv
    1902.08153, section 2.2), N the number of values of a weight, or of one image's activation,
    that share a scale. Adam divides gradients by their size and needs none.
    """

    unit: Tensor
    mirror: Tensor | None

    def __init__(self, scheme: Scheme, channels: int = 0, scaled_gradient: bool = False) -> None:
        super().__init__()
        self.scheme, self.scaled_gradient = scheme, scaled_gradient
        self.shares_by_slice = channels == 0 or scheme.channel_axis is not None
        self.started = False
        shape = () if scheme.channel_axis is None else (channels,)
        self.register_buffer("unit", torch.ones(shape))
        self.upper = nn.Parameter(torch.zeros(shape))
        # Without an offset one bound is learned; the other is its mirror, so many times as far.
        learns_both = scheme.offset and not scheme.symmetric
        self.lower = nn.Parameter(torch.zeros(shape)) if learns_both else None
        self.register_buffer("mirror", None if learns_both else torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        """The nearest representable values of `x`, float32."""
        grid = self.grid()
        if not (self.scaled_gradient and torch.is_grad_enabled()):
            return fake_quantize(x, grid)
        count = x.numel() / (len(x) if self.shares_by_slice else 1)
        largest = float((grid.scheme.quant_max - grid.zero_point.detach()).max())
        return fake_quantize(x, grid, 1 / math.sqrt(count * max(largest, 1.0)))

    @torch.no_grad()
    def start(self, lower: Tensor, upper: Tensor) -> None:
        """Take bounds, shaped () or (channels,), and quantize from now on."""
        lower, upper = lower.float().clamp_max(0), upper.float().clamp_min(0)
        if self.mirror is not None:
            below, above = self.scheme.signed_limits(True)
            both_signs = (lower < 0) | self.scheme.symmetric
            self.mirror.copy_(both_signs * (below / above))
            upper = torch.where(both_signs, torch.maximum(-lower * (above / below), upper), upper)
            lower = torch.zeros_like(upper)
        self.unit.copy_((upper - lower).clamp_min(SMALLEST_RANGE))
        self.upper.copy_(upper / self.unit)
        if self.lower is not None:
            self.lower.copy_(lower / self.unit)
        self.started = True

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The current (lower, upper); gradients reach the learned parameters."""
        if not self.started:
            raise FitError("this quantizer has no bounds yet; start it with what was observed")
        upper = clamp_returning(self.upper * self.unit, SMALLEST_RANGE, math.inf)
        if self.mirror is not None:
            return -upper * self.mirror, upper
        assert self.lower is not None
        return clamp_returning(self.lower * self.unit, -math.inf, 0.0), upper

    def grid(self) -> Grid:
        """The grid of the current bounds, whose gradients reach them."""
        return grid_between(*self.bounds(), self.scheme)

    def get_extra_state(self) -> dict[str, Any]:
        """The flag that it was started, for `state_dict`."""
        return {"started": self.started}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_extra_state` gave, from `load_state_dict`."""
        self.started = state["started"]


class FrozenQuantizer(nn.Module):
    """Quantizer on a fixed grid, to the last bit what a checkpoint holds."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.scheme = grid.scheme
        self.register_buffer("scale", grid.scale.detach())
        self.register_buffer("zero_point", grid.zero_point.detach())

    def forward(self, x: Tensor) -> Tensor:
        """The nearest representable values of `x`, float32."""
        return fake_quantize(x, self.grid())

    def grid(self) -> Grid:
        """The grid it was made with."""
        return Grid(self.scheme, self.scale, self.zero_point)


def quantizer_on(scheme: Scheme | None, channels: int, scaled_gradient: bool) -> Quantizer | None:
    """A quantizer that learns, or none for what stays in floating point."""
    return None if scheme is None else Quantizer(scheme, channels, scaled_gradient)


def frozen_quantizer_on(grid: Grid | None) -> FrozenQuantizer | None:
    """A quantizer that runs, or none for what stays in floating point."""
    return None if grid is None else FrozenQuantizer(grid)


def grid_of(quantizer: Quantizer | FrozenQuantizer | None) -> Grid | None:
    """The grid of a quantizer, if there is one."""
    return None if quantizer is None else quantizer.grid()
