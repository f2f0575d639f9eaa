"""A quantizer: a scheme and the learnable bounds of one tensor."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor, nn

from passionsr_cli.errors import FitError
from passionsr_cli.quantization.affine import Grid, Scheme, fake_quantize, grid_between
from passionsr_cli.quantization.observers import MinMaxObserver


class State(Enum):
    """What a quantizer does with what passes through it."""

    OBSERVING = "observing"
    QUANTIZING = "quantizing"


class Quantizer(nn.Module):
    """Learnable boundary quantizer (LBQ, PassionSR, arXiv 2411.17106).

    It starts by observing (values pass unchanged), `calibrate` takes the bounds from what was
    seen, and from then on it quantizes, differentiably in its `lower` and `upper` bounds. Until
    then its grid does not exist, and asking for it raises `FitError`.
    """

    def __init__(self, scheme: Scheme, channels: int = 0) -> None:
        super().__init__()
        self.scheme = scheme
        self.observer = MinMaxObserver(scheme.channel_axis)
        self.state = State.OBSERVING
        shape = () if scheme.channel_axis is None else (channels,)
        self.upper = nn.Parameter(torch.full(shape, torch.nan))
        # A symmetric quantizer learns one bound; the other is its mirror.
        self.lower = None if scheme.symmetric else nn.Parameter(torch.full(shape, torch.nan))

    def forward(self, x: Tensor) -> Tensor:
        """`x` unchanged while observing, else its nearest representable values in float32."""
        if self.state is State.OBSERVING:
            self.observer.observe(x)
            return x
        return fake_quantize(x, self.grid())

    @torch.no_grad()
    def calibrate(self) -> None:
        """Take the bounds from what was observed and quantize from now on."""
        lower, upper = self.observer.bounds()
        if self.lower is None:
            upper = torch.maximum(-lower, upper)
        else:
            self.lower.copy_(lower.clamp_max(0))
        self.upper.copy_(upper.clamp_min(0))
        self.state = State.QUANTIZING

    def grid(self) -> Grid:
        """The grid of the current bounds; gradients reach them."""
        if self.state is State.OBSERVING:
            raise FitError("this quantizer is not calibrated; call calibrate() after observing")
        return grid_between(
            -self.upper if self.lower is None else self.lower, self.upper, self.scheme
        )
