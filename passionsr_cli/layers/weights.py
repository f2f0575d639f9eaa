"""Weight of a layer that is calibrated: what is added to it, and how it is rounded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from passionsr_cli.layers.products import QuantizedLayer, product_of
from passionsr_cli.quantization.affine import fake_quantize, grid_between, quantize
from passionsr_cli.quantization.bounds_init import start_between
from passionsr_cli.quantization.low_rank import LowRank
from passionsr_cli.quantization.quantizer import quantizer_on
from passionsr_cli.quantization.rounding import AdaptiveRounding, DecidedRounding
from passionsr_cli.quantization.schemes import LayerPlan, Scheme, State
from passionsr_cli.quantization.transform import Bounds

# Of a branch's factors wherever they run: what that rounds away the quantized weight makes up for.
BRANCH_TYPE = torch.bfloat16


class LearningWeight(QuantizedLayer):
    """Weight of a layer that is calibrated: what is added to it, and how it is rounded.

    What is rounded is s ⊙ (W − L₁L₂ + F₁F₂): L₁L₂ is what a branch computes beside the layer,
    F₁F₂ what is merged (QArtSR, arXiv 2503.05584; SVDQuant, arXiv 2411.05007, has the first
    alone, EfficientDM, arXiv 2310.03270, the second).
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, plan: LayerPlan) -> None:
        super().__init__(product_of(layer))
        weight, bias = layer.weight, layer.bias
        self.plan = plan
        self.state = State.FLOAT
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.weight_quantizer = quantizer_on(
            plan.weight, weight.shape[0], plan.fitting.scaled_gradient
        )
        self.branch = LowRank(weight.shape, plan.rank) if plan.rank else None
        self.merged = LowRank(weight.shape, plan.merged_rank) if plan.merged_rank else None
        self.rounding = _rounding(weight, plan)

    def _own_weight(self) -> Tensor:
        """W − L₁L₂ + F₁F₂: without rounding it would be the layer's with its branch."""
        weight = self.weight.float()
        if self.branch is not None:
            weight = weight - self.branch.product(BRANCH_TYPE)
        return weight if self.merged is None else weight + self.merged.product()

    def scaled_weight(self, scale: Tensor | None) -> Tensor:
        weight = self._own_weight()
        if scale is None:
            return weight
        return weight * scale.reshape(1, -1, *[1] * (weight.dim() - 2))

    def _quantized_weight(self, scale: Tensor | None) -> Tensor:
        weight = self.scaled_weight(scale)
        if self.weight_quantizer is None:
            return weight
        if self.state is State.FOLLOWING:
            scheme = self.weight_quantizer.scheme
            return fake_quantize(weight, grid_between(*weight_bounds(weight, scheme), scheme))
        if self.rounding is not None:
            rounded: Tensor = self.rounding(weight, self.weight_quantizer.grid())
            return rounded
        quantized: Tensor = self.weight_quantizer(weight)
        return quantized

    def _folded_bias(self, shift: Tensor | None) -> Tensor | None:
        """b + W δ, from the weight as it was before rounding."""
        if shift is None:
            return self.bias
        # No matrix product: autocast would compute it in half precision.
        moved = (self._summed_weight() * shift).sum(1)
        return moved if self.bias is None else self.bias + moved

    def _summed_weight(self) -> Tensor:
        """Sum (O, C) that each input channel adds to an output where it is constant."""
        weight = self._own_weight()
        return weight if weight.dim() == 2 else weight.flatten(2).sum(2)

    def branch_factors(self) -> tuple[Tensor, Tensor] | None:
        """(down, up) of the branch beside the layer as they run, shaped like weights."""
        if self.branch is None:
            return None
        down, up = self.branch.factors()
        up = up.reshape(*up.shape, *[1] * (down.dim() - 2))
        return down.to(BRANCH_TYPE), up.to(BRANCH_TYPE)

    @torch.no_grad()
    def _start_weight(self, scale: Tensor | None) -> None:
        """Bounds of W, F₁F₂, and the rounding from what these bounds make of W."""
        if self.weight_quantizer is None:
            return
        if self.merged is not None:
            self.merged.start_at_zero(self.weight.float())
        self._start_weight_bounds(scale)
        if self.merged is not None and self.plan.fitting.merged_start == "residual":
            weight = self.scaled_weight(scale)
            residual = weight - self.weight_quantizer(weight)
            if scale is not None:
                residual = residual / scale.reshape(1, -1, *[1] * (weight.dim() - 2))
            self.merged.start_nearest(residual, scale)
            self._start_weight_bounds(scale)
        if self.rounding is not None:
            self.rounding.start(self.scaled_weight(scale), self.weight_quantizer.grid())

    def _start_weight_bounds(self, scale: Tensor | None) -> None:
        assert self.weight_quantizer is not None
        weight, scheme = self.scaled_weight(scale), self.weight_quantizer.scheme
        values = weight.flatten() if scheme.channel_axis is None else weight.flatten(1)
        extremes = weight_bounds(weight, scheme)
        start_between(self.weight_quantizer, values, extremes, self.plan.fitting.bounds_start)

    def _rounded_weight(self, scale: Tensor | None) -> Tensor:
        """The integers of the weight, or s ⊙ W where it has no grid."""
        weight = self.scaled_weight(scale)
        if self.weight_quantizer is None:
            return weight
        grid = self.weight_quantizer.grid()
        if self.rounding is not None:
            return self.rounding.integers(weight, grid)
        return quantize(weight, grid)


def _rounding(weight: Tensor, plan: LayerPlan) -> AdaptiveRounding | DecidedRounding | None:
    if plan.weight is None or plan.fitting.rounding == "nearest":
        return None
    return (AdaptiveRounding if plan.fitting.rounding == "adaptive" else DecidedRounding)(
        weight.shape
    )


def weight_bounds(weight: Tensor, scheme: Scheme) -> Bounds:
    """Smallest and largest weight, of each output channel or of all; differentiable."""
    if scheme.channel_axis is None:
        return weight.amin(), weight.amax()
    return weight.flatten(1).amin(1), weight.flatten(1).amax(1)
