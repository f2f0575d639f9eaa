"""What is decided about a layer, the states it passes through, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from torch import Tensor

from passionsr_cli.quantization.affine import Grid, Scheme
from passionsr_cli.quantization.bounds_init import BoundsStart

# Why a layer has other bits than the rest, as the manifest says it.
EXCEPTION = "kept at 8 bits by the preset"
FLOATING = "left in floating point by the settings"


class State(Enum):
    """What a layer does with what passes through it; all layers of a component share it.

    FLOAT: as it was. OBSERVING: the same, noting the ranges of its input. FOLLOWING: quantized
    between bounds that follow the transformation (LET is learned). WEIGHTS_ONLY: the weight is
    quantized between its own bounds, what passes through stays as it is. QUANTIZING: quantized
    between the quantizers' own bounds (LBQ).
    """

    FLOAT = "float"
    OBSERVING = "observing"
    FOLLOWING = "following"
    WEIGHTS_ONLY = "weights only"
    QUANTIZING = "quantizing"


class Part(Enum):
    """What can be learned about a quantized layer.

    TRANSFORM: the channels' scales and shifts. BOUNDS: of every grid of what passes through, and
    how the parts of a split share one. WEIGHT_BOUNDS: of the weights' grids. BRANCH: L₁L₂, which
    runs beside the layer in 16 bits. MERGED: F₁F₂, which is added to the weight before it is
    rounded. ROUNDING: which way each weight is rounded.
    """

    TRANSFORM = "transform"
    BOUNDS = "bounds"
    WEIGHT_BOUNDS = "weight_bounds"
    BRANCH = "branch"
    MERGED = "merged"
    ROUNDING = "rounding"


Rounding = Literal["nearest", "adaptive", "gptq"]
ScaleStart = Literal["extremes", "deviations"]


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is quantized; a scheme that is None leaves its side in floating point.

    `split` is the channel at which a concatenated input's second part begins. `rank` is that of
    the branch beside the layer, `merged_rank` that of the one merged into its weight; 0: none.
    `merged_start` is zero, or what the rounding of the weight took away. `bounds_start` says where
    bounds start from, `scaled_gradient` that LSQ's factor is on their gradient.
    """

    weight: Scheme | None
    activation: Scheme | None
    channel_scale: bool = False
    channel_shift: bool = False
    split: int | None = None
    rank: int = 0
    merged_rank: int = 0
    merged_start: Literal["zero", "residual"] = "zero"
    rounding: Rounding = "nearest"
    bounds_start: BoundsStart = "extremes"
    scaled_gradient: bool = False


@dataclass(frozen=True)
class AttentionPlan:
    """How the products of one attention are quantized.

    q and k are symmetric: integer kernels need that of a product of two activations.
    `scale_start` says what of q and k the scales of their channels start from.
    """

    activation: Scheme
    channel_scale: bool = False
    scale_start: ScaleStart = "extremes"
    bounds_start: BoundsStart = "extremes"
    scaled_gradient: bool = False

    @property
    def query_key(self) -> Scheme:
        return Scheme(self.activation.num_bits, symmetric=True)


@dataclass(frozen=True)
class FrozenLayer:
    """All that is left of a calibrated layer: what executors run and checkpoints hold.

    With a grid, `weight` holds the integers (int16) of s ⊙ W, without one s ⊙ W itself. `bias`
    contains W δ; scale and shift have the split folded in; None is the identity. `branch` is
    (down, up) in bfloat16, shaped like weights: X runs through both, and what they make is added.
    """

    weight: Tensor
    weight_grid: Grid | None
    bias: Tensor | None
    channel_scale: Tensor | None
    channel_shift: Tensor | None
    input_grid: Grid | None
    branch: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class FrozenAttention:
    """All that is left of a calibrated attention: the scale of each head channel and the grids
    of `query`, `key`, `probability` and `value`."""

    channel_scale: Tensor | None
    grids: dict[str, Grid]
