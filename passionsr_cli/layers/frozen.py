"""Frozen layers: all that is left of a calibrated one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from passionsr_cli.quantization.affine import Grid


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
