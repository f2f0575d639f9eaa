"""A quantizer: a scheme and the learnable bounds of one tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from passionsr_cli.errors import FitError
from passionsr_cli.quantization.affine import (
    SMALLEST_RANGE,
    Grid,
    Scheme,
    fake_quantize,
    grid_between,
)


class Quantizer(nn.Module):
    """Learnable boundary quantizer (LBQ, PassionSR, arXiv 2411.17106).

    `start` gives it bounds; from then on it quantizes, differentiably in both. They are learned
    as multiples of the range they started from, so that one learning rate suits every tensor of
    a model. Before `start` its grid does not exist, and asking for it raises `FitError`.
    """

    unit: Tensor | None
    scale: Tensor | None
    zero_point: Tensor | None

    def __init__(self, scheme: Scheme, channels: int = 0) -> None:
        super().__init__()
        self.scheme = scheme
        self.started = False
        shape = () if scheme.channel_axis is None else (channels,)
        self.register_buffer("unit", torch.ones(shape))
        self.upper: nn.Parameter | None = nn.Parameter(torch.zeros(shape))
        # A symmetric quantizer learns one bound; the other is its mirror.
        self.lower = None if scheme.symmetric else nn.Parameter(torch.zeros(shape))
        # The grid once it is fixed, to the last bit what a checkpoint holds.
        self.register_buffer("scale", None)
        self.register_buffer("zero_point", None)

    def forward(self, x: Tensor) -> Tensor:
        """The nearest representable values of `x`, float32."""
        return fake_quantize(x, self.grid())

    @torch.no_grad()
    def start(self, lower: Tensor, upper: Tensor) -> None:
        """Take bounds, shaped () or (channels,), and quantize from now on."""
        assert self.upper is not None
        assert self.unit is not None
        if self.lower is None:
            upper = torch.maximum(-lower, upper)
            lower = torch.zeros_like(upper)
        lower, upper = lower.float().clamp_max(0), upper.float().clamp_min(0)
        self.unit.copy_((upper - lower).clamp_min(SMALLEST_RANGE))
        self.upper.copy_(upper / self.unit)
        if self.lower is not None:
            self.lower.copy_(lower / self.unit)
        self.started = True

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The current (lower, upper); gradients reach the learned parameters."""
        if self.upper is None or self.unit is None:
            return self.grid().nudged_bounds()
        if not self.started:
            raise FitError("this quantizer has no bounds yet; start it with what was observed")
        upper = self.upper * self.unit
        return (-upper if self.lower is None else self.lower * self.unit), upper

    def grid(self) -> Grid:
        """The grid of the current bounds, whose gradients reach them, or the fixed one."""
        if self.scale is not None and self.zero_point is not None:
            return Grid(self.scheme, self.scale, self.zero_point)
        return grid_between(*self.bounds(), self.scheme)

    @torch.no_grad()
    def fix(self, grid: Grid) -> None:
        """Quantize to this grid from now on; nothing is learned any more."""
        self.scale, self.zero_point = grid.scale.detach(), grid.zero_point.detach()
        self.lower = self.upper = self.unit = None

    def get_extra_state(self) -> dict[str, Any]:
        """Whether it was started, for `state_dict`."""
        return {"started": self.started}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """What `get_extra_state` gave, from `load_state_dict`."""
        self.started = state["started"]
