"""Attention with quantized products: all that does not depend on how they are quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# An operand's name and its values (B, heads, N, d), and the values it is multiplied as.
Rounding = Callable[[str, Tensor], Tensor]


class QuantizedAttention(nn.Module):
    """Base of the processors for diffusers' `Attention` whose q, k, softmax and v are quantized.

    q·kᵀ has one channel scale per head channel, (q / s)·(k s)ᵀ; softmax and v have none (a scale
    between them would be per token and tie a model to one image size).
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def __call__(  # diffusers reads this signature
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        result: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states)
        return result

    def forward(self, attn: Any, hidden_states: Tensor, context: Tensor | None) -> Tensor:
        """Attention of (B, N, C), or of an image (B, C, H, W), over itself or over a context."""
        tokens = hidden_states
        if hidden_states.dim() == 4:
            tokens = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        mixed = self.attend(attn, tokens, tokens if context is None else context)
        if hidden_states.dim() == 4:
            mixed = mixed.transpose(1, 2).reshape(hidden_states.shape)
        if attn.residual_connection:
            mixed = mixed + hidden_states
        result: Tensor = mixed / attn.rescale_output_factor
        return result

    def attend(self, attn: Any, tokens: Tensor, source: Tensor) -> Tensor:
        """Attention of tokens (B, N, C) over a source (B, M, C'), projections and products."""
        query, key, value = attn.to_q(tokens), attn.to_k(source), attn.to_v(source)
        result: Tensor = attn.to_out[0](self.products(query, key, value, float(attn.scale)))
        return result

    def products(self, query: Tensor, key: Tensor, value: Tensor, factor: float) -> Tensor:
        """softmax(q kᵀ · factor) v of (B, N, C), (B, M, C), (B, M, C) as (B, N, C)."""
        raise NotImplementedError

    def mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        factor: float,
        scale: Tensor | None,
        rounding: Rounding,
    ) -> Tensor:
        """The products in float32, of operands that `rounding` rounds."""
        query, key, value = query.float(), key.float(), value.float()
        if scale is not None:
            query, key = query / scale, key * scale
        query = rounding("query", self.apart(query))
        key = rounding("key", self.apart(key))
        probability = torch.softmax(query @ key.transpose(-1, -2) * factor, dim=-1).float()
        probability = rounding("probability", probability)
        return together(probability @ rounding("value", self.apart(value)))

    def apart(self, x: Tensor) -> Tensor:
        """(B, N, C) as (B, heads, N, C / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


def together(x: Tensor) -> Tensor:
    """(B, heads, N, d) as (B, N, heads·d)."""
    return x.transpose(1, 2).flatten(2)
