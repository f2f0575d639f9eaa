"""Attention while it is calibrated: observing, learning, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from passionsr_cli.layers.attention import QuantizedAttention, together
from passionsr_cli.layers.frozen import FrozenAttention
from passionsr_cli.quantization.affine import fake_quantize, grid_between
from passionsr_cli.quantization.bounds_init import start_from_sample
from passionsr_cli.quantization.observers import (
    DeviationObserver,
    MinMaxObserver,
    Observer,
    SampleObserver,
)
from passionsr_cli.quantization.quantizer import Quantizer
from passionsr_cli.quantization.schemes import AttentionPlan, Learnable, State
from passionsr_cli.quantization.transform import ChannelTransform, extent


class LearningAttention(QuantizedAttention):
    """Attention that is calibrated: its state says what it does, `freeze` what comes of it."""

    def __init__(self, channels: int, heads: int, plan: AttentionPlan) -> None:
        super().__init__(heads)
        self.plan = plan
        self.state = State.FLOAT
        self.transform = ChannelTransform(channels, False) if plan.channel_scale else None
        schemes = plan.operands.values()
        self.query, self.key, self.probability, self.value = (
            Quantizer(scheme, scaled_gradient=plan.fitting.scaled_gradient) for scheme in schemes
        )
        self.tensor_observers = {name: MinMaxObserver() for name in self._quantizers()}
        self.channel_observers = {name: MinMaxObserver(-1) for name in ("query", "key")}
        deviating = ("query", "key") if plan.scale_start == "deviations" else ()
        self.deviations = {name: DeviationObserver() for name in deviating}
        sampled = self._quantizers() if plan.fitting.bounds_start != "extremes" else ()
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

    def products(self, query: Tensor, key: Tensor, value: Tensor, factor: float) -> Tensor:
        if self.state in (State.FLOAT, State.WEIGHTS_ONLY):
            q, k, v = (self.apart(tensor) for tensor in (query, key, value))
            return together(F.scaled_dot_product_attention(q, k, v, scale=factor))
        if self.state is State.OBSERVING:
            observed: list[Mapping[str, Observer]] = [self.channel_observers, self.deviations]
            for group in observed:
                for name, observer in group.items():
                    observer.observe(query if name == "query" else key)
        scale = None if self.transform is None else self.transform.scale()
        return self.mix(query, key, value, factor, scale, partial(self._round, scale))

    def _round(self, scale: Tensor | None, name: str, x: Tensor) -> Tensor:
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
        if scale is not None and name in self.channel_observers:
            largest = extent(self.channel_observers[name].bounds())
            upper = (largest / scale if name == "query" else largest * scale).amax()
            lower = -upper
        return fake_quantize(x, grid_between(lower, upper, quantizer.scheme))

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

    def start_branch(self) -> None:
        """Products of two activations have no weight to take a branch from."""

    @torch.no_grad()
    def start_bounds(self) -> None:
        """Bounds from what was observed (LBQ's start)."""
        for name, quantizer in self._quantizers().items():
            bounds = self.tensor_observers[name].bounds()
            if name in self.samples:
                values = self.samples[name].values()
                start_from_sample(quantizer, values, bounds, self.plan.fitting.bounds_start)
            else:
                quantizer.start(*bounds)

    @torch.no_grad()
    def freeze(self) -> FrozenAttention:
        """The attention that runs: everything that was learned, fixed."""
        scale = None if self.transform is None else self.transform.scale()
        grids = {name: quantizer.grid() for name, quantizer in self._quantizers().items()}
        return FrozenAttention(self.heads, scale, grids)
