"""The two products of attention on integer grids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from passionsr_cli.layers.frozen import FrozenAttention
from passionsr_cli.quantization.affine import fake_quantize, grid_between
from passionsr_cli.quantization.bounds_init import start_between
from passionsr_cli.quantization.observers import (
    DeviationObserver,
    MinMaxObserver,
    Observer,
    SampleObserver,
)
from passionsr_cli.quantization.quantizer import Quantizer
from passionsr_cli.quantization.schemes import AttentionPlan, Learnable, State
from passionsr_cli.quantization.transform import ChannelTransform, extent


class QuantizedAttention(nn.Module):
    """A processor for diffusers' `Attention` whose q, k, softmax and v are quantized.

    q·kᵀ has one channel scale per head channel, (q / s)·(k s)ᵀ; softmax and v have none (a scale
    between them would be per token and tie a model to one image size).
    """

    channel_scale: Tensor | None

    def __init__(self, channels: int, heads: int, plan: AttentionPlan) -> None:
        super().__init__()
        self.register_buffer("channel_scale", None)
        self.plan, self.heads = plan, heads
        self.state = State.FLOAT
        self.frozen = False
        self.transform = ChannelTransform(channels, False) if plan.channel_scale else None
        schemes = (plan.query_key, plan.query_key, plan.activation, plan.activation)
        self.query, self.key, self.probability, self.value = (
            Quantizer(scheme, scaled_gradient=plan.scaled_gradient) for scheme in schemes
        )
        self.tensor_observers = {name: MinMaxObserver() for name in self._quantizers()}
        self.channel_observers = {name: MinMaxObserver(-1) for name in ("query", "key")}
        deviating = ("query", "key") if plan.scale_start == "deviations" else ()
        self.deviations = {name: DeviationObserver() for name in deviating}
        sampled = self._quantizers() if plan.bounds_start != "extremes" else ()
        self.samples = {name: SampleObserver() for name in sampled}

    def observers(self) -> dict[str, Observer]:
        """Observers that take note while `State.OBSERVING`."""
        groups: dict[str, Mapping[str, Observer]] = {
            "": self.tensor_observers,
            " channels": self.channel_observers,
            " deviations": self.deviations,
            " sample": self.samples,
        }
        return {
            f"{name}{suffix}": observer
            for suffix, group in groups.items()
            for name, observer in group.items()
        }

    def learnable(self) -> dict[Learnable, list[nn.Module]]:
        """The modules whose parameters are each part of what can be learned."""
        return {
            Learnable.TRANSFORM: [] if self.transform is None else [self.transform],
            Learnable.BOUNDS: list(self._quantizers().values()),
        }

    def _quantizers(self) -> dict[str, Quantizer]:
        return {
            "query": self.query,
            "key": self.key,
            "probability": self.probability,
            "value": self.value,
        }

    def most_bits(self) -> int:
        """Bits of its grids."""
        return self.plan.activation.num_bits

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
        source = tokens if context is None else context
        mixed = self.products(
            attn.to_q(tokens), attn.to_k(source), attn.to_v(source), float(attn.scale)
        )
        mixed = attn.to_out[0](mixed)
        if hidden_states.dim() == 4:
            mixed = mixed.transpose(1, 2).reshape(hidden_states.shape)
        if attn.residual_connection:
            mixed = mixed + hidden_states
        result: Tensor = mixed / attn.rescale_output_factor
        return result

    def products(self, query: Tensor, key: Tensor, value: Tensor, factor: float) -> Tensor:
        """softmax(q kᵀ · factor) v of (B, N, C), (B, M, C), (B, M, C) as (B, N, C)."""
        if self.state in (State.FLOAT, State.WEIGHTS_ONLY):
            q, k, v = (self._apart(tensor) for tensor in (query, key, value))
            return _together(F.scaled_dot_product_attention(q, k, v, scale=factor))
        scale = self.channel_scale if self.transform is None else self.transform.scale()
        if self.state is State.OBSERVING:
            observed: list[Mapping[str, Observer]] = [self.channel_observers, self.deviations]
            for group in observed:
                for name, observer in group.items():
                    observer.observe(query if name == "query" else key)
        query, key, value = query.float(), key.float(), value.float()
        if scale is not None:
            query, key = query / scale, key * scale
        query = self._round("query", self._apart(query), scale)
        key = self._round("key", self._apart(key), scale)
        probability = torch.softmax(query @ key.transpose(-1, -2) * factor, dim=-1).float()
        probability = self._round("probability", probability, None)
        return _together(probability @ self._round("value", self._apart(value), None))

    def _round(self, name: str, x: Tensor, scale: Tensor | None) -> Tensor:
        quantizer = self._quantizers()[name]
        if self.state is State.OBSERVING:
            self.tensor_observers[name].observe(x)
            if name in self.samples:
                self.samples[name].observe(x)
            return x
        if self.state is State.QUANTIZING:
            rounded: Tensor = quantizer(x)
            return rounded
        lower, upper = self.tensor_observers[name].bounds()
        if scale is not None:
            largest = extent(self.channel_observers[name].bounds())
            upper = (largest / scale if name == "query" else largest * scale).amax()
        elif quantizer.scheme.symmetric:
            upper = extent((lower, upper))
        return fake_quantize(x, grid_between(lower, upper, quantizer.scheme))

    def _apart(self, x: Tensor) -> Tensor:
        """(B, N, C) as (B, heads, N, C / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    @torch.no_grad()
    def start_transform(self, exponent: float) -> None:
        """Head-channel scales from what was observed (LET's start)."""
        if self.transform is None:
            return
        if self.deviations:
            query, key = (self.deviations[name].deviation() for name in ("query", "key"))
        else:
            query, key = (extent(self.channel_observers[n].bounds()) for n in ("query", "key"))
        self.transform.start(query, key, exponent)

    def start_branch(self, scaled: bool) -> None:
        """Products of two activations have no weight to take a branch from."""

    @torch.no_grad()
    def start_bounds(self) -> None:
        """Bounds from what was observed (LBQ's start)."""
        for name, quantizer in self._quantizers().items():
            bounds = self.tensor_observers[name].bounds()
            if name in self.samples:
                values = self.samples[name].values()
                start_between(quantizer, values, bounds, self.plan.bounds_start)
            else:
                quantizer.start(*bounds)

    @torch.no_grad()
    def nudged_bounds(self) -> dict[str, tuple[float, float]]:
        """The smallest and largest representable values of each operand, for people to read."""
        pairs = {name: item.grid().nudged_bounds() for name, item in self._quantizers().items()}
        return {name: (float(lower), float(upper)) for name, (lower, upper) in pairs.items()}

    @torch.no_grad()
    def freeze(self) -> None:
        """Fix everything that was learned."""
        scale = None if self.transform is None else self.transform.scale()
        grids = {name: quantizer.grid() for name, quantizer in self._quantizers().items()}
        self.adopt(FrozenAttention(scale, grids))

    def adopt(self, frozen: FrozenAttention) -> None:
        """Become the attention that `freeze` made, here or in an earlier process."""
        for name, quantizer in self._quantizers().items():
            quantizer.fix(frozen.grids[name])
        self.channel_scale, self.transform = frozen.channel_scale, None
        self.frozen, self.state = True, State.QUANTIZING

    def as_frozen(self) -> FrozenAttention:
        """The frozen attention that `adopt` takes up."""
        assert self.frozen
        grids = {name: quantizer.grid() for name, quantizer in self._quantizers().items()}
        return FrozenAttention(self.channel_scale, grids)


def _together(x: Tensor) -> Tensor:
    """(B, heads, N, d) as (B, N, heads·d)."""
    return x.transpose(1, 2).flatten(2)
