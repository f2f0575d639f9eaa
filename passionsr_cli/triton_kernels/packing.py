"""Weights as the kernels read them: whole bytes, or two codes a byte up to 4 bits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.quantization.affine import along_channels

MOST_PACKED_BITS = 4


def integer_weight(layer: FrozenLayer) -> Tensor:
    """The weight's integers less their zero points, int32: real is this times the grid's scale."""
    grid = layer.weight_grid
    assert grid is not None
    stored = layer.stored_weight().int()
    return stored - along_channels(stored, grid)[1].int()


def pack_weight(layer: FrozenLayer, multiple: int) -> tuple[Tensor, Tensor]:
    """The weight of a frozen layer for the kernels, a row of bytes (O, …), and its zeros (O,) int8.

    The order of a row is h, w, C, with C filled up to a multiple by weights that are zero. Up to 4
    bits a byte, uint8, holds two codes, that of the even channel in its lower half, which stand for
    the row's zero less than they are; more are int8 that stand for themselves.
    """
    grid = layer.weight_grid
    assert grid is not None
    integers = integer_weight(layer)
    zero = along_channels(integers, grid)[1].int() - grid.scheme.quant_min
    codes = _channels_last(integers, multiple)
    zeros = zero.reshape(-1).expand(len(codes)).to(torch.int8).contiguous()
    if grid.scheme.num_bits > MOST_PACKED_BITS:
        return codes.to(torch.int8), zeros
    codes = codes + zeros[:, None]
    return (codes[:, 0::2] | codes[:, 1::2] << 4).to(torch.uint8), zeros


def _channels_last(weight: Tensor, multiple: int) -> Tensor:
    """(O, C, h, w) or (O, C) as (O, h·w·C'), zero beyond C."""
    if weight.dim() == 2:
        weight = weight[:, :, None, None]
    filled = F.pad(weight.permute(0, 2, 3, 1), (0, -weight.shape[1] % multiple))
    return filled.flatten(1).contiguous()
