"""Attention on integer kernels: q·kᵀ and p·v of codes, in the place of a frozen attention."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from passionsr_cli.layers.attention import QuantizedAttention
from passionsr_cli.layers.frozen import FrozenAttention
from passionsr_cli.triton_kernels.attention_launching import Operands, Steps, attend
from passionsr_cli.triton_kernels.launching import InputGrid, quantize
from passionsr_cli.triton_kernels.layers import IntegerLayer, result_type, signed_limits

# Of a softmax's grid: its codes then add up to so little that their products with values stay
# within 32 bits for as many keys as memory holds.
SMALLEST_STEP = 2**-22


def attention_obstacle(attention: FrozenAttention) -> str:
    """The reason why there is no integer kernel for an attention; empty if there is one."""
    if float(attention.grids["probability"].scale) < SMALLEST_STEP:
        return "its sums of products may exceed 32 bits"
    return ""


class IntegerAttention(QuantizedAttention):
    """Attention whose two products are integer kernels.

    Projections that are kernels too give codes and nothing else, and take codes of the products.
    """

    query_factor: Tensor
    key_factor: Tensor
    value_factor: Tensor
    offset: Tensor

    def __init__(self, attention: FrozenAttention, channels: int) -> None:
        super().__init__(attention.heads)
        grids = attention.grids
        step = {name: grid.scale.double() for name, grid in grids.items()}
        scale = torch.ones((), dtype=torch.double)
        if attention.channel_scale is not None:
            scale = attention.channel_scale.double()
        factors = {
            "query_factor": 1 / (scale * step["query"]),
            "key_factor": scale / step["key"],
            "value_factor": 1 / step["value"],
        }
        for name, factor in factors.items():
            self.register_buffer(name, factor.expand(channels).float().contiguous())
        self.register_buffer("offset", torch.zeros(channels))
        self._limits = {name: signed_limits(grid) for name, grid in grids.items()}
        self._steps = Steps(
            logit=float(step["query"] * step["key"]) * math.log2(math.e),
            share=float(1 / step["probability"]),
            result=float(step["probability"] * step["value"]),
            share_limits=self._limits["probability"],
            value_zero=self._limits["value"][0],
        )

    def attend(self, attn: Any, tokens: Tensor, source: Tensor) -> Tensor:
        operands = Operands(
            _codes(attn.to_q, tokens, self._grid("query")),
            _codes(attn.to_k, source, self._grid("key")),
            _codes(attn.to_v, source, self._grid("value"), transposed=True),
            len(tokens),
            self.heads,
        )
        steps = replace(self._steps, logit=self._steps.logit * float(attn.scale))
        out = attn.to_out[0]
        if isinstance(out, IntegerLayer) and out.branch_down is None:
            codes = attend(operands, steps, out.grid)
            result = out.product_of_codes(codes, result_type(tokens))
        else:
            result = out(attend(operands, steps))
        return result.reshape(*tokens.shape[:2], -1)

    def _grid(self, name: str) -> InputGrid:
        return InputGrid(getattr(self, f"{name}_factor"), self.offset, *self._limits[name])


def _codes(projection: nn.Module, x: Tensor, grid: InputGrid, transposed: bool = False) -> Tensor:
    """A projection of (B, N, C) as codes (B·N, ≥ O) on a grid, or (O, B·N) if `transposed`."""
    if isinstance(projection, IntegerLayer):
        return projection.codes_of(x, grid, transposed)
    projected = projection(x).flatten(0, 1)
    codes = quantize(projected[None, None], grid, (0, 0))[0, 0]
    return codes[:, : projected.shape[1]].t().contiguous() if transposed else codes
