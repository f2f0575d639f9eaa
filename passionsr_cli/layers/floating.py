"""A checkpoint's model without its rounding: plain layers in the place of frozen ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from passionsr_cli.layers.convert import frozen_layers
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.products import Convolution

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def floating_twin(model: AnyModule) -> AnyModule:
    """Replace the frozen layers of a model by torch's own, in place, and attentions by diffusers'.

    It is as fast as the model was before its calibration. Weights stay what they were rounded to;
    what passes through is not rounded, and branches are left out.
    """
    from diffusers.models.attention_processor import AttnProcessor2_0

    processor: Callable[[], object] = AttnProcessor2_0
    for name, layer in frozen_layers(model).items():
        if isinstance(layer, FrozenLayer):
            model.set_submodule(name, _plain(layer))
        else:
            model.get_submodule(name).set_processor(processor())  # type: ignore[operator]
    return model


@torch.no_grad()
def _plain(layer: FrozenLayer) -> nn.Module:
    weight = layer.weight
    along_inputs = (1, -1, *[1] * (weight.dim() - 2))
    if layer.channel_scale is not None:
        weight = weight / layer.channel_scale.reshape(along_inputs)
    bias: Tensor | None = layer.bias
    if layer.channel_shift is not None and bias is not None:
        bias = bias - (weight * layer.channel_shift.reshape(along_inputs)).flatten(1).sum(1)
    outputs, inputs = weight.shape[:2]
    plain: nn.Module
    if isinstance(layer.product, Convolution):
        taps = (weight.shape[2], weight.shape[3])
        geometry = (layer.product.stride, layer.product.padding, layer.product.dilation)
        plain = nn.Conv2d(inputs, outputs, taps, *geometry, bias=bias is not None)
    else:
        plain = nn.Linear(inputs, outputs, bias=bias is not None)
    own = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    plain.load_state_dict(own)
    return plain.requires_grad_(False)
