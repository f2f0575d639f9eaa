"""Roundings of weights other than to the nearest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from passionsr_cli.quantization.affine import Grid, along_channels, dequantize, in_steps, quantize
from passionsr_cli.quantization.gptq import gptq

# The sigmoid is stretched to (GAMMA, ZETA) and cut to [0, 1], so that it can reach both ends
# (AdaRound, equation 23).
GAMMA, ZETA = -0.1, 1.1


class AdaptiveRounding(nn.Module):
    """q = clamp(floor(w / scale) + h(V) + zero_point) with h(V) ∈ [0, 1] learned for each weight
    (AdaRound, Nagel et al. 2020, arXiv 2004.10568).

    It is soft while V learns; otherwise h is 0 or 1, whichever is nearer.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(*shape))

    @torch.no_grad()
    def start(self, weight: Tensor, grid: Grid) -> None:
        """Start where nothing is changed yet: h(V) is what floor takes off each weight."""
        steps = in_steps(weight, grid)
        rest = steps - steps.floor()
        self.logit.copy_(-((ZETA - GAMMA) / (rest - GAMMA) - 1).log())

    def decide(self, weight: Tensor, grid: Grid, rows: Tensor) -> None:
        """Do nothing: what passes through decides nothing here, V is learned."""

    def upwards(self) -> Tensor:
        """h(V), equation 23."""
        return (self.logit.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def undecided(self, exponent: float) -> Tensor:
        """Mean of 1 − |2h(V) − 1|^β, the paper's regularizer (equation 24): 0 once all is
        decided."""
        return (1 - (2 * self.upwards() - 1).abs().pow(exponent)).mean()

    def forward(self, weight: Tensor, grid: Grid) -> Tensor:
        """The weight between the two nearest representable values of each entry while V learns,
        on one of them otherwise; float32."""
        scale, zero_point = along_channels(weight, grid)
        up = self.upwards() if self.logit.requires_grad else self._decided()
        return (self._clamped(weight, grid, up) - zero_point) * scale

    @torch.no_grad()
    def integers(self, weight: Tensor, grid: Grid) -> Tensor:
        """The decided integers, int16."""
        return self._clamped(weight, grid, self._decided()).to(torch.int16)

    def _decided(self) -> Tensor:
        return (self.upwards() > 0.5).float()

    def _clamped(self, weight: Tensor, grid: Grid, up: Tensor) -> Tensor:
        _, zero_point = along_channels(weight, grid)
        q = in_steps(weight, grid).detach().floor() + up + zero_point
        return q.clamp(grid.scheme.quant_min, grid.scheme.quant_max)


class DecidedRounding(nn.Module):
    """Integers that are decided once, from what passes through: GPTQ. The nearest until then."""

    decided: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("decided", torch.zeros(*shape, dtype=torch.int16))

    @torch.no_grad()
    def start(self, weight: Tensor, grid: Grid) -> None:
        """The nearest integers."""
        self.decided.copy_(quantize(weight, grid))

    @torch.no_grad()
    def decide(self, weight: Tensor, grid: Grid, rows: Tensor) -> None:
        """Integers for inputs like these rows (n, K), for a weight (O, …) of O·K entries."""
        self.decided.copy_(gptq(weight.flatten(1), grid, rows).reshape(weight.shape))

    def forward(self, weight: Tensor, grid: Grid) -> Tensor:
        """Values of the integers, float32; gradients reach the grid's bounds alone."""
        return dequantize(self.decided, grid)

    def integers(self, weight: Tensor, grid: Grid) -> Tensor:
        """The integers, int16."""
        return self.decided
