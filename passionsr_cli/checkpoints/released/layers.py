"""From a released layer's quantizers to a layer of ours, in either arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from passionsr_cli.bits import MOST_BITS, Bits
from passionsr_cli.checkpoints.released.arithmetic import (
    Tensors,
    in_halves,
    released_codes,
    released_grid,
    released_round,
)
from passionsr_cli.errors import ModelError
from passionsr_cli.layers.frozen import FrozenAttention, FrozenLayer
from passionsr_cli.layers.products import product_of
from passionsr_cli.quantization.affine import grid_between, quantize
from passionsr_cli.quantization.packing import pack
from passionsr_cli.quantization.schemes import OPERANDS, LayerPlan, Scheme
from passionsr_cli.quantization.transform import Bounds

Layer = nn.Conv2d | nn.Linear
_LETTERS = dict(zip(OPERANDS, "qkwv", strict=True))


@dataclass(frozen=True)
class Quantizers:
    """The released quantizers of one convolution or linear layer.

    `weight` has bounds (O,) and `activation` bounds () for each half; `shift` is that of
    X̃ = (X − shift)/s, whatever sign the file has it with, and `correction` the sign with which
    the released code adds W shift to the bias.
    """

    weight: tuple[Bounds, ...]
    activation: tuple[Bounds, ...]
    bias: Bounds | None
    scale: Tensor
    shift: Tensor
    correction: int
    as_tokens: bool


def quantizers_of(name: str, layer: Layer, tensors: Mapping[str, Tensor]) -> Quantizers:
    """Quantizers of a layer in a file. Raises `ModelError` if one is missing or does not fit."""
    left = dict(tensors)

    def take(key: str, count: int) -> Tensor:
        if key not in left:
            raise ModelError(f"{name}: {key} is missing")
        tensor = left.pop(key)
        if tensor.numel() not in (1, count):
            raise ModelError(f"{name}: {key} has {tensor.numel()} values, expected {count}")
        return tensor.flatten().expand(count) if count > 1 else tensor.reshape(count)

    def bounds(quantizer: str, count: int) -> Bounds:
        return take(f"{quantizer}.x_min", count), take(f"{quantizer}.x_max", count)

    outputs, channels = layer.weight.shape[:2]
    # Latent diffusion's 1×1 convolutions in the VAE's attention are linear layers here.
    as_convolution = tensors.get("scale_factor", torch.empty(0)).dim() == 4
    halves = 2 if "act_quantizer_1.x_min" in left else 1
    sign = 1 if as_convolution else -1
    found = Quantizers(
        weight=tuple(bounds(f"weight_quantizer_{half}", outputs) for half in range(halves)),
        activation=tuple(_scalars(bounds(f"act_quantizer_{half}", 1)) for half in range(halves)),
        bias=None if layer.bias is None else _scalars(bounds("bias_quantizer", 1)),
        scale=take("scale_factor", channels),
        shift=sign * take("offset", channels),
        correction=sign,
        # The time embedding is a vector: its second axis are its channels.
        as_tokens=not as_convolution and "time_emb" not in name,
    )
    if left:
        raise ModelError(f"{name}: nothing takes {', '.join(left)}")
    return found


def _scalars(bounds: Bounds) -> Bounds:
    return bounds[0].reshape(()), bounds[1].reshape(())


def released_tensors(layer: Layer, found: Quantizers, bits: Bits) -> Tensors:
    """The tensors of a `ReleasedLayer`."""
    weight = layer.weight.detach().float()
    along = (-1, *[1] * (weight.dim() - 1))
    scaled = weight * found.scale.reshape(1, -1, *along[2:])
    grids = [released_grid(*bounds, bits.weight) for bounds in found.weight]
    codes = [
        released_codes(part, scale.reshape(along), zero_point.reshape(along), bits.weight)
        for part, (scale, zero_point) in zip(in_halves(scaled, len(grids), 1), grids, strict=True)
    ]
    inputs = [released_grid(*bounds, bits.activation) for bounds in found.activation]
    tensors = {
        "weight": pack(torch.cat(codes, 1), bits.weight),
        "weight_scale": torch.stack([scale for scale, _ in grids]),
        "weight_zero_point": torch.stack([zero_point for _, zero_point in grids]),
        "input_scale": torch.stack([scale for scale, _ in inputs]),
        "input_zero_point": torch.stack([zero_point for _, zero_point in inputs]),
        "channel_scale": found.scale.clone(),
        "channel_shift": found.shift.clone(),
    }
    bias = torch.zeros(len(weight))
    if layer.bias is not None and found.bias is not None:
        grid = released_grid(*found.bias, bits.weight)
        bias = released_round(layer.bias.detach().float(), *grid, bits.weight)
    kernel = torch.einsum("oc...,c->o...", weight, found.correction * found.shift)
    if isinstance(layer, nn.Conv2d) and any(layer.padding):
        tensors["shift_kernel"] = kernel
    else:
        bias = bias + kernel.flatten(1).sum(1) if kernel.dim() > 1 else bias + kernel
    return {**tensors, "bias": bias}


def standard_weights(bits: int) -> Scheme:
    """Weights of imported layers: symmetric at 8 bits, which integer kernels need."""
    return Scheme(bits, bits == MOST_BITS, 0)


def standard_parts(layer: Layer, found: Quantizers, plan: LayerPlan) -> list[FrozenLayer]:
    """The layer in this package's arithmetic, as one part or as two that are summed.

    The identity of LET holds: the bias gets W δ with the sign of the shift. Where the released
    input is halved along tokens, one grid spans both halves.
    """
    assert plan.weight is not None
    assert plan.activation is not None
    count, bias = len(found.weight), layer.bias
    activation = list(found.activation)
    if found.as_tokens and count > 1:
        lower, upper = (torch.stack(side) for side in zip(*activation, strict=True))
        activation = [(lower.amin(), upper.amax())] * count
    parts = []
    for number in range(count):
        weight, scale, shift = (
            in_halves(tensor, count, axis)[number]
            for tensor, axis in (
                (layer.weight.detach().float(), 1),
                (found.scale, 0),
                (found.shift, 0),
            )
        )
        lower, upper = found.weight[number]
        along = (-1, *[1] * (weight.dim() - 1))
        # Symmetric or not, what the learned bounds clip stays clipped.
        scaled = weight * scale.reshape(1, *along[:-1])
        scaled = scaled.clamp(lower.reshape(along), upper.reshape(along))
        grid = grid_between(lower, upper, plan.weight)
        moved = torch.einsum("oc...,c->o...", weight, shift).reshape(len(weight), -1).sum(1)
        parts.append(
            FrozenLayer(
                product_of(layer),
                weight=quantize(scaled, grid),
                weight_grid=grid,
                bias=moved if number or bias is None else bias.detach().float() + moved,
                channel_scale=scale.clone(),
                channel_shift=shift.clone(),
                input_grid=grid_between(*activation[number], plan.activation),
            )
        )
    return parts


def attention_tensors(name: str, tensors: Mapping[str, Tensor], bits: int) -> Tensors:
    """The tensors of a `ReleasedAttention`."""
    grids, scale, token_scale = _attention(name, tensors)
    found = {"channel_scale": scale, "token_scale": token_scale}
    for operand, bounds in grids.items():
        found[f"{operand}_scale"], found[f"{operand}_zero_point"] = released_grid(*bounds, bits)
    return found


def standard_attention(
    name: str, tensors: Mapping[str, Tensor], heads: int, scheme: Scheme
) -> FrozenAttention:
    """The attention in this package's arithmetic: q and k symmetric, no scale of each token.

    Without that scale, the grids of softmax and v span what they spanned with it.
    """
    grids, scale, token_scale = _attention(name, tensors)
    upper = (grids["probability"][1] / token_scale.amin()).clamp_max(1)
    grids["probability"] = (grids["probability"][0].clamp_max(0), upper)
    grids["value"] = tuple(bound * token_scale.amax() for bound in grids["value"])  # type: ignore[assignment]
    schemes = dict.fromkeys(OPERANDS, scheme)
    schemes["query"] = schemes["key"] = Scheme(scheme.num_bits, symmetric=True)
    made = {operand: grid_between(*grids[operand], schemes[operand]) for operand in grids}
    return FrozenAttention(heads, (1 / scale).repeat(heads), made)


def _attention(
    name: str, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Bounds], Tensor, Tensor]:
    left = dict(tensors)
    try:
        grids = {
            operand: (
                left.pop(f"act_quantizer_{letter}.x_min").reshape(()),
                left.pop(f"act_quantizer_{letter}.x_max").reshape(()),
            )
            for operand, letter in _LETTERS.items()
        }
        scale, token_scale = left.pop("scale_factor_qk"), left.pop("scale_factor_vw")
    except KeyError as error:
        raise ModelError(f"{name}: {error.args[0]} is missing") from error
    if left:
        raise ModelError(f"{name}: nothing takes {', '.join(left)}")
    return grids, scale.flatten(), token_scale.flatten()
