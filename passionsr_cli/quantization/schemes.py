"""Quantization schemes and layer plans: what is decided about each layer. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, model_validator

from passionsr_cli.bits import FEWEST_BITS, MOST_BITS
from passionsr_cli.errors import ConfigError

# What the two products of an attention multiply.
OPERANDS = ("query", "key", "probability", "value")
CONVOLUTION, LINEAR, ATTENTION = "convolution", "linear", "attention"
BoundsStart = Literal["extremes", "lsq", "mse"]
Rounding = Literal["nearest", "adaptive", "gptq"]
ScaleStart = Literal["extremes", "deviations"]
MergedStart = Literal["zero", "residual"]
# For manifests: nothing unknown, no number that is none.
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
# Why a layer has other bits than the rest, as the manifest says it.
EXCEPTION = "kept at 8 bits by the preset"
NARROWED = "6 bits of weights, so that CPUs convolve before they enlarge"
FLOATING = "left in floating point by the settings"


@dataclass(frozen=True)
class Scheme:
    """Quantization scheme: the integers that a tensor is quantized to.

    `channel_axis` is the axis along which each slice has bounds of its own (0 for the output
    channels of a weight), None for one pair per tensor. Without `offset` an asymmetric scheme's
    zero point is not free: it stands in the middle, 2^(b−1), or at 0 where no value is negative
    (the signed and unsigned integers of LSQ, arXiv 1902.08153).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    num_bits: int
    symmetric: bool = False
    channel_axis: int | None = None
    offset: bool = True

    def __post_init__(self) -> None:
        if not FEWEST_BITS <= self.num_bits <= MOST_BITS:
            raise ConfigError(
                f"{self.num_bits} bits cannot be quantized to; use {FEWEST_BITS} to {MOST_BITS}"
            )
        if self.channel_axis not in (None, 0, 1):
            raise ConfigError(f"channel_axis must be 0, 1 or none, found {self.channel_axis}")

    @property
    def quant_min(self) -> int:
        return -self.quant_max if self.symmetric else 0

    @property
    def quant_max(self) -> int:
        return (1 << (self.num_bits - 1 if self.symmetric else self.num_bits)) - 1

    def signed_limits(self, signed: bool) -> tuple[int, int]:
        """Reach of the integers below and above zero, where both signs occur or one does."""
        if self.symmetric:
            return self.quant_max, self.quant_max
        half = 1 << (self.num_bits - 1)
        return (half, half - 1) if signed else (0, self.quant_max)


class State(Enum):
    """Phase of a layer's calibration; all layers of a component share it.

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


class Learnable(Enum):
    """Learnable parts of a quantized layer.

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


@dataclass(frozen=True)
class GridFitting:
    """Search for a layer's grids; nothing of it is left in a finished layer.

    `bounds_start` says where bounds start from, `scaled_gradient` that LSQ's factor is on their
    gradient.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    bounds_start: BoundsStart = "extremes"
    scaled_gradient: bool = False


@dataclass(frozen=True)
class LayerFitting(GridFitting):
    """Search for a layer's grids and integers; `merged_start` is zero, or what the rounding of the
    weight took away."""

    rounding: Rounding = "nearest"
    merged_start: MergedStart = "zero"


class _Fitted:
    """Reading of a plan from a manifest."""

    @model_validator(mode="before")
    @classmethod
    def _read_before_fitting(cls, given: Any) -> Any:
        """Until 0.5 what is in `fitting` stood beside the rest."""
        if not isinstance(given, dict) or "fitting" in given:
            return given
        names = [field.name for field in fields(LayerFitting)]
        fitting = {name: given[name] for name in names if name in given}
        rest = {name: value for name, value in given.items() if name not in fitting}
        return {**rest, "fitting": fitting} if fitting else given


@dataclass(frozen=True)
class LayerPlan(_Fitted):
    """Plan of one layer's quantization; a scheme that is None leaves its side in floating point.

    `split` is the channel at which a concatenated input's second part begins. `rank` is that of
    the branch beside the layer, `merged_rank` that of the one merged into its weight; 0: none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    weight: Scheme | None
    activation: Scheme | None
    channel_scale: bool = False
    channel_shift: bool = False
    split: int | None = None
    rank: int = 0
    merged_rank: int = 0
    fitting: LayerFitting = LayerFitting()


@dataclass(frozen=True)
class AttentionPlan(_Fitted):
    """Plan of the quantization of one attention's products.

    q and k are symmetric: integer kernels need that of a product of two activations.
    `scale_start` says what of q and k the scales of their channels start from.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    activation: Scheme
    channel_scale: bool = False
    scale_start: ScaleStart = "extremes"
    fitting: GridFitting = GridFitting()

    @property
    def operands(self) -> dict[str, Scheme]:
        """The scheme of each operand, by its name in `OPERANDS`."""
        query_key = Scheme(self.activation.num_bits, symmetric=True)
        schemes = (query_key, query_key, self.activation, self.activation)
        return dict(zip(OPERANDS, schemes, strict=True))


@dataclass(frozen=True)
class ReleasedPlan(LayerPlan):
    """Plan of a layer that the released code quantized; `halves` is what its grids split."""

    halves: Literal["none", "channels", "tokens"] = "none"
    numerics: Literal["released"] = "released"


@dataclass(frozen=True)
class ReleasedAttentionPlan(AttentionPlan):
    """Plan of an attention's products that the released code quantized."""

    numerics: Literal["released"] = "released"


Plan: TypeAlias = LayerPlan | AttentionPlan | ReleasedPlan | ReleasedAttentionPlan


@dataclass(frozen=True)
class LayerRecord:
    """Record of what became of one layer; without a plan it was left alone, `reason` says why.

    `reason` of a quantized layer tells what is special about it, if anything. `weight_shape` is
    for readers of packed weights; attention has none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    kind: str
    parameters: int
    plan: Plan | None
    reason: str = ""
    weight_shape: tuple[int, ...] = ()

    @property
    def weight(self) -> Scheme | None:
        return self.plan.weight if isinstance(self.plan, LayerPlan) else None

    @property
    def activation(self) -> Scheme | None:
        return None if self.plan is None else self.plan.activation
