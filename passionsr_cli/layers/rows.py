"""Inputs of a layer as rows of the matrix that its weight multiplies."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.layers.products import Convolution


@torch.no_grad()
def input_rows(layer: LearningLayer, x: Tensor, count: int) -> Tensor:
    """Rows (n, K) of X̃, rounded, for a weight of O·K entries: at about `count` places of an
    input, evenly spaced."""
    # The border is there first: with a shift its zeros are not zero on the grid.
    product = layer.product
    rounded = layer.rounded_input(product.pad(x))[1]
    if not isinstance(product, Convolution):
        rows = rounded.flatten(0, -2)
        return rows[:: max(1, round(len(rows) / count))]
    height, width = layer.weight.shape[2:]
    places = x.shape[0] * math.prod(rounded.shape[2:]) / math.prod(product.stride)
    apart = max(1, round(math.sqrt(places / count)))
    stride = (apart * product.stride[0], apart * product.stride[1])
    patches = F.unfold(rounded, (height, width), product.dilation, stride=stride)
    return patches.transpose(1, 2).flatten(0, 1)


@torch.no_grad()
def decide_rounding(layer: LearningLayer, rows: Tensor) -> None:
    """Round a layer's weight with the inputs in mind that `input_rows` gave, if it is to be."""
    if layer.rounding is not None and layer.weight_quantizer is not None:
        weight = layer.scaled_weight(layer.effective_transform()[0])
        layer.rounding.decide(weight, layer.weight_quantizer.grid(), rows)
