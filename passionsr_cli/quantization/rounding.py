"""Which way each weight is rounded, learned (AdaRound, Nagel et al. 2020, arXiv 2004.10568)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from passionsr_cli.quantization.affine import Grid, along_channels

# The sigmoid is stretched to (GAMMA, ZETA) and cut to [0, 1], so that it can reach both ends
# (equation 23 of the paper).
GAMMA, ZETA = -0.1, 1.1


class AdaptiveRounding(nn.Module):
    """q = clamp(floor(w / scale) + h(V) + zero_point) with h(V) ∈ [0, 1] learned for each weight.

    Until `decide` it is soft; afterwards h is 0 or 1, whichever is nearer.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(*shape))

    @torch.no_grad()
    def start(self, weight: Tensor, grid: Grid) -> None:
        """Where nothing is changed yet: h(V) is what floor takes off each weight."""
        scale, _ = along_channels(weight, grid)
        steps = weight / scale
        rest = (steps - steps.floor()).clamp(0.01, 0.99)
        self.logit.copy_(-((ZETA - GAMMA) / (rest - GAMMA) - 1).log())

    def upwards(self) -> Tensor:
        """h(V), equation 23."""
        return (self.logit.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def undecided(self, exponent: float) -> Tensor:
        """Mean of 1 − |2h(V) − 1|^β, the paper's regularizer (equation 24): 0 once all is
        decided."""
        return (1 - (2 * self.upwards() - 1).abs().pow(exponent)).mean()

    def soft(self, weight: Tensor, grid: Grid) -> Tensor:
        """The weight between the two nearest representable values of each entry, float32."""
        scale, zero_point = along_channels(weight, grid)
        q = (weight / scale).detach().floor() + self.upwards() + zero_point
        return (q.clamp(grid.scheme.quant_min, grid.scheme.quant_max) - zero_point) * scale

    @torch.no_grad()
    def integers(self, weight: Tensor, grid: Grid) -> Tensor:
        """The decided integers, int16."""
        scale, zero_point = along_channels(weight, grid)
        q = (weight / scale).floor() + (self.upwards() > 0.5).float() + zero_point
        return q.clamp(grid.scheme.quant_min, grid.scheme.quant_max).to(torch.int16)
