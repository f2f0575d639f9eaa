"""What is decided about a layer, the states it passes through, and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from passionsr_cli.quantization.affine import Grid, Scheme


class State(Enum):
    """What a layer does with what passes through it; all layers of a component share it.

    FLOAT: as it was. OBSERVING: the same, noting the ranges of its input. FOLLOWING: quantized
    between bounds that follow the transformation (LET is learned). QUANTIZING: quantized between
    the quantizers' own bounds (LBQ).
    """

    FLOAT = "float"
    OBSERVING = "observing"
    FOLLOWING = "following"
    QUANTIZING = "quantizing"


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is quantized; a scheme that is None leaves its side in floating point.

    `split` is the channel at which a concatenated input's second part begins.
    """

    weight: Scheme | None
    activation: Scheme | None
    channel_scale: bool = False
    channel_shift: bool = False
    split: int | None = None


@dataclass(frozen=True)
class AttentionPlan:
    """How the products of one attention are quantized.

    q and k are symmetric: integer kernels need that of a product of two activations.
    """

    activation: Scheme
    channel_scale: bool = False

    @property
    def query_key(self) -> Scheme:
        return Scheme(self.activation.num_bits, symmetric=True)


@dataclass(frozen=True)
class FrozenLayer:
    """All that is left of a calibrated layer: what executors run and checkpoints hold.

    With a grid, `weight` holds the integers (int16) of s ⊙ W, without one s ⊙ W itself. `bias`
    contains W δ; scale and shift have the split folded in; None is the identity.
    """

    weight: Tensor
    weight_grid: Grid | None
    bias: Tensor | None
    channel_scale: Tensor | None
    channel_shift: Tensor | None
    input_grid: Grid | None


@dataclass(frozen=True)
class FrozenAttention:
    """All that is left of a calibrated attention: the scale of each head channel and the grids
    of `query`, `key`, `probability` and `value`."""

    channel_scale: Tensor | None
    grids: dict[str, Grid]
