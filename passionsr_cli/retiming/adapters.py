"""Low-rank adapters that learn (LoRA, arXiv 2106.09685): W + B A in place of W.

A parametrization of the weight, so that layers stay what they are; what published adapters were
learned to is `models.lora`'s.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from passionsr_cli.layers.convert import find_layers
from passionsr_cli.quantization.schemes import ATTENTION

WEIGHT = "weight"


class LowRankUpdate(nn.Module):
    """W (O, …) plus B A, with A (r, …) and B (O, r), in float32; B starts at zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.flatten(1).shape
        rank = min(rank, outputs, inputs)
        self.down = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.to(weight.device)

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight + (self.up @ self.down).reshape(weight.shape)


def attach(model: nn.Module, rank: int, learns: Callable[[str], bool]) -> nn.ParameterList:
    """Freeze a model but for low-rank updates of the layers whose names `learns` takes; returns
    what learns."""
    model.requires_grad_(False)
    learned: list[nn.Parameter] = []
    for name, kind, layer in list(find_layers(model)):
        if kind != ATTENTION and learns(name):
            update = LowRankUpdate(layer.get_parameter(WEIGHT), rank)
            parametrize.register_parametrization(layer, WEIGHT, update)
            learned += update.parameters()
    return nn.ParameterList(learned)


def merge(model: nn.Module) -> None:
    """Every updated weight becomes a plain one, W + B A in float32."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, WEIGHT):
            parametrize.remove_parametrizations(module, WEIGHT)
    model.requires_grad_(False)
