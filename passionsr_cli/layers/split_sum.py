"""A layer as a sum of layers that each read some of its input channels."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SplitSum(nn.Module):
    """Sum of a layer's parts: grids of parts that do not fold into one need this.

    `parts` are plain layers on neighbouring channels, of these widths; the first has the bias.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, widths: Sequence[int]) -> None:
        super().__init__()
        self.axis = 1 if isinstance(layer, nn.Conv2d) else -1
        self.widths = list(widths)
        self.parts = nn.ModuleList()
        for number, weight in enumerate(torch.split(layer.weight.detach(), self.widths, dim=1)):
            part = copy.copy(layer)
            part._parameters = dict(layer._parameters)
            part.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
            if number:
                part.bias = None
            self.parts.append(part)

    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.split(x, self.widths, dim=self.axis)
        results = [part(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        total: Tensor = sum(results[1:], start=results[0])
        return total
