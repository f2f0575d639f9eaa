"""The arithmetic of PassionSR's released code, written out once more, in the precision of x."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def half_away(x: Tensor) -> Tensor:
    return torch.where(x < 0, (x - 0.5).ceil(), (x + 0.5).floor())


def quantized(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    delta = (high - low) / (2**bits - 1)
    zero = half_away(low / delta)
    return (torch.clamp(half_away(x / delta) - zero, 0, 2**bits - 1) + zero) * delta


def layer(module: nn.Module, state: dict[str, Tensor], x: Tensor, bits: int) -> Tensor:
    """The forward pass of a layer in the released code (saw_sep)."""
    get: Callable[[str], Tensor] = lambda key: state[key].to(x.dtype)  # noqa: E731
    halves = 2 if "act_quantizer_1.x_min" in state else 1
    weight, scale = module.weight.to(x.dtype), get("scale_factor")
    convolution = isinstance(module, nn.Conv2d)
    vector = scale.flatten()
    if scale.dim() == 4 and not convolution:
        scale = scale[..., 0, 0]
    offset = get("offset").reshape(scale.shape)
    plus = get("scale_factor").dim() == 2
    moved = (x + offset) / scale if plus else (x - offset) / scale
    weight_scaled = weight * vector.reshape(1, -1, *[1] * (weight.dim() - 2))
    cut = x.shape[1] // 2
    inputs = [moved] if halves == 1 else [moved[:, :cut], moved[:, cut:]]
    cut = weight.shape[1] // 2
    weights = [weight_scaled] if halves == 1 else [weight_scaled[:, :cut], weight_scaled[:, cut:]]
    rounded_input = torch.cat(
        [
            quantized(half, get(f"act_quantizer_{n}.x_min"), get(f"act_quantizer_{n}.x_max"), bits)
            for n, half in enumerate(inputs)
        ],
        1,
    )
    rounded = torch.cat(
        [
            quantized(
                half,
                get(f"weight_quantizer_{n}.x_min").reshape(-1, *[1] * (weight.dim() - 1)),
                get(f"weight_quantizer_{n}.x_max").reshape(-1, *[1] * (weight.dim() - 1)),
                bits,
            )
            for n, half in enumerate(weights)
        ],
        1,
    )
    bias = module.bias
    if bias is not None:
        low, high = get("bias_quantizer.x_min"), get("bias_quantizer.x_max")
        bias = quantized(bias.to(x.dtype), low, high, bits)
    if convolution:
        kind = {"stride": module.stride, "padding": module.padding}
        offsets = offset.expand_as(x)
        out = F.conv2d(rounded_input, rounded, bias, **kind)
        return out + F.conv2d(offsets, weight, None, **kind)
    return F.linear(rounded_input, rounded, bias) + weight @ offset.flatten()
