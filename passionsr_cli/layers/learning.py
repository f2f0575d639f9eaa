"""Convolutions and linear layers while they are calibrated, with their transformations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.weights import LearningWeight
from passionsr_cli.quantization.affine import fake_quantize, grid_between
from passionsr_cli.quantization.bounds_init import start_from_sample
from passionsr_cli.quantization.observers import MinMaxObserver, Observer, SampleObserver
from passionsr_cli.quantization.quantizer import grid_of, quantizer_on
from passionsr_cli.quantization.schemes import LayerPlan, Learnable, State
from passionsr_cli.quantization.transform import (
    Bounds,
    ChannelTransform,
    Split,
    extent,
    transformed_bounds,
)


class LearningLayer(LearningWeight):
    """Convolution or linear layer that is calibrated, in float32.

    Its state says what it does; `freeze` gives the layer that comes of it.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, plan: LayerPlan) -> None:
        super().__init__(layer, plan)
        channels = layer.weight.shape[1]
        transforms = plan.channel_scale or plan.channel_shift
        self.transform = ChannelTransform(channels, plan.channel_shift) if transforms else None
        symmetric = plan.activation is not None and plan.activation.symmetric
        cut = plan.split
        self.split = None if cut is None else Split(cut, plan.channel_shift, symmetric)
        self.input_quantizer = quantizer_on(plan.activation, 0, plan.fitting.scaled_gradient)
        self.tensor_observer = MinMaxObserver()
        self.channel_observer = MinMaxObserver(self.product.channel_axis)
        sampled = plan.activation is not None and plan.fitting.bounds_start != "extremes"
        self.samples = [SampleObserver() for _ in self._slices(channels)] if sampled else []

    def observers(self) -> dict[str, Observer]:
        """Observers that take note while `State.OBSERVING`."""
        samples = {f"sample {number}": sample for number, sample in enumerate(self.samples)}
        return {"tensor": self.tensor_observer, "channel": self.channel_observer, **samples}

    def learnable(self) -> dict[Learnable, list[nn.Module]]:
        """The modules whose parameters are each part of what can be learned."""
        found: dict[Learnable, list[nn.Module | None]] = {
            Learnable.TRANSFORM: [self.transform],
            Learnable.BOUNDS: [self.split, self.input_quantizer],
            Learnable.WEIGHT_BOUNDS: [self.weight_quantizer],
            Learnable.BRANCH: [self.branch],
            Learnable.MERGED: [self.merged],
            Learnable.ROUNDING: [self.rounding],
        }
        return {
            part: [module for module in modules if module is not None]
            for part, modules in found.items()
        }

    def most_bits(self) -> int:
        """Bits of the finer of its grids."""
        schemes = (self.plan.weight, self.plan.activation)
        return max(scheme.num_bits for scheme in schemes if scheme is not None)

    def forward(self, x: Tensor) -> Tensor:
        if self.state is State.FLOAT:
            return self.product(x, self.weight, self.bias)
        scale, shift, bounds = self._transformation()
        # Zero is only zero on the grid of X; with a shift the border must be there before it.
        padded = shift is not None
        values = self.product.pad(x) if padded else x
        if self.state is State.OBSERVING:
            self._observe(values.detach(), scale, shift)
            return self.product(x, self.weight, self.bias)
        values = self.product.move(values, scale, shift)
        if self.input_quantizer is not None and self.state is not State.WEIGHTS_ONLY:
            if bounds is None:
                values = self.input_quantizer(values)
            else:
                values = fake_quantize(values, grid_between(*bounds, self.input_quantizer.scheme))
        weight, bias = self._quantized_weight(scale), self._folded_bias(shift)
        result = self.product(values, weight, bias, padded)
        factors = self.branch_factors()
        return result if factors is None else result + self.product.branch(x, *factors).float()

    def _transformation(self) -> tuple[Tensor | None, Tensor | None, Bounds | None]:
        """Scale and shift of each channel, and the bounds that follow from them if they do."""
        scale, shift = self._own_transform()
        if scale is None and self.split is not None:
            scale = torch.ones(self.weight.shape[1], device=self.weight.device)
        if self.state is not State.FOLLOWING:
            if self.split is not None and scale is not None:
                scale, shift = self.split.folded(scale, shift)
            return scale, shift, None
        bounds = self._parts(scale, shift)
        if self.split is None or scale is None:
            return scale, shift, bounds[0]
        ratio, offset, common = self.split.fold(bounds[0], bounds[1])
        return *self.split.combine(scale, shift, ratio, offset), common

    def _parts(self, scale: Tensor | None, shift: Tensor | None) -> list[Bounds]:
        """Bounds of X̃, or of each of its two parts, from the observed channels of X."""
        lower, upper = self.channel_observer.bounds()
        if scale is not None:
            lower, upper = transformed_bounds((lower, upper), scale, shift)
        return [(lower[part].amin(), upper[part].amax()) for part in self._slices(len(lower))]

    def _slices(self, channels: int) -> list[slice]:
        """The channels of each part of X̃."""
        cut = channels if self.split is None else self.split.boundary
        return [slice(0, cut), slice(cut, channels)][: 1 if self.split is None else 2]

    def _observe(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> None:
        self.channel_observer.observe(x)
        self.tensor_observer.observe(self.product.move(x, scale, shift))
        if self.samples:
            # Of each part as it is before both are folded into one grid.
            moved = self.product.move(x, *self._own_transform())
            channels = moved.movedim(self.product.channel_axis, 0)
            for sample, part in zip(self.samples, self._slices(len(channels)), strict=True):
                sample.observe(channels[part])

    def _own_transform(self) -> tuple[Tensor | None, Tensor | None]:
        """(s, δ) of each input channel, without the split."""
        found = self.transform
        return (None, None) if found is None else (found.scale(), found.shift())

    @torch.no_grad()
    def start_transform(self, exponent: float) -> None:
        """Channel scales from what was observed (LET's start), for the weight as it is now."""
        if self.transform is not None and self.plan.channel_scale:
            weights = self._own_weight().transpose(0, 1).flatten(1).abs().amax(1)
            self.transform.start(extent(self.channel_observer.bounds()), weights, exponent)

    @torch.no_grad()
    def start_branch(self) -> None:
        """L₁L₂ from the largest singular values of s ⊙ W with the scale as it is now."""
        if self.branch is not None:
            scale = None if self.transform is None else self.transform.scale()
            self.branch.start_nearest(self.weight.float(), scale)

    @torch.no_grad()
    def start_bounds(self) -> None:
        """Bounds from what was observed, through the transformation as it is now (LBQ's start).

        Parts of a concatenation get bounds each, folded into one grid. What depends on the
        weight's bounds starts with them: F₁F₂ and the rounding.
        """
        whole, quantizer = self.split is None, self.input_quantizer
        parts = [self.tensor_observer.bounds()] if whole else self._parts(*self._own_transform())
        if quantizer is not None and self.samples:
            parts = [
                start_from_sample(quantizer, sample.values(), part, self.plan.fitting.bounds_start)
                for sample, part in zip(self.samples, parts, strict=True)
            ]
        bounds = parts[0] if self.split is None else self.split.start(*parts)
        if quantizer is not None:
            quantizer.start(*bounds)
        self._start_weight(self.effective_transform()[0])

    def effective_transform(self) -> tuple[Tensor | None, Tensor | None]:
        """(s, δ) of each input channel with the split folded in; None is the identity."""
        assert self.state is not State.FOLLOWING
        return self._transformation()[:2]

    @torch.no_grad()
    def clipped_share(self, x: Tensor) -> float:
        """The share of an input that lies outside the grid, by more than rounding would move it."""
        scale, shift, bounds = self._transformation()
        quantizer = self.input_quantizer
        if quantizer is None:
            return 0.0
        grid = quantizer.grid() if bounds is None else grid_between(*bounds, quantizer.scheme)
        lower, upper = grid.nudged_bounds()
        values, slack = self.product.move(x, scale, shift), grid.scale / 2
        return float(((values < lower - slack) | (values > upper + slack)).float().mean())

    @torch.no_grad()
    def rounded_input(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(X̃, X̃ rounded to its grid) of a layer that quantizes."""
        scale, shift, _ = self._transformation()
        moved = self.product.move(x, scale, shift)
        return moved, moved if self.input_quantizer is None else self.input_quantizer(moved)

    @torch.no_grad()
    def freeze(self) -> FrozenLayer:
        """The layer that runs: the weight rounded for good, everything that was learned folded."""
        scale, shift = self.effective_transform()
        return FrozenLayer(
            self.product,
            weight=self._rounded_weight(scale),
            weight_grid=grid_of(self.weight_quantizer),
            bias=self._folded_bias(shift),
            channel_scale=scale,
            channel_shift=shift,
            input_grid=grid_of(self.input_quantizer),
            branch=self.branch_factors(),
        )
