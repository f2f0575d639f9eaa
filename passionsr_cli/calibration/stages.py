"""What a calibration method is: a transformation and an ordered list of stages, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from passionsr_cli.config import FitSettings
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.quantization.plans import State

ShiftPolicy = Literal["none", "unpadded", "all"]


class Learns(Enum):
    """Which parameters of the quantized layers a stage learns."""

    TRANSFORM = "transform"
    BOUNDS = "bounds"
    BOTH = "both"


@dataclass(frozen=True)
class Transformation:
    """Which equivalent transformations layers get (LET, PassionSR, arXiv 2411.17106).

    `channel_shift` in padded convolutions costs an executor an explicit border, so `unpadded`
    leaves those out. `exponent` is a of the channel scales' start, max|X|^a / max|W|^a.
    """

    channel_scale: bool
    channel_shift: ShiftPolicy
    split: bool
    exponent: float = 0.5


NO_TRANSFORMATION = Transformation(channel_scale=False, channel_shift="none", split=False)


@dataclass(frozen=True)
class Stage:
    """One step of a method on a chain of components.

    Ranges are observed on what the quantized components before them produce, then the
    transformation and the bounds start from them as far as `starts_transform` and
    `starts_bounds` say, and `learns` is fitted (nothing if `fit` is None) so that the chain's
    output comes near its target: the teacher's output at the same place, or the photograph.
    """

    name: str
    components: tuple[str, ...]
    starts_transform: bool
    starts_bounds: bool
    learns: Learns = Learns.BOUNDS
    fit: FitSettings | None = None
    target: Literal["teacher", "hr"] = "teacher"

    @property
    def state(self) -> State:
        """Bounds follow the transformation while it alone is learned."""
        return State.FOLLOWING if self.learns is Learns.TRANSFORM else State.QUANTIZING


Stages = tuple[Stage, ...]


@dataclass(frozen=True)
class Method:
    """A calibration method. Stages go through the components from the encoder to the decoder.

    `settings` are what it was made from, complete, for the checkpoint's manifest.
    """

    name: str
    settings: dict[str, Any]
    transformation: Transformation
    stages: Stages

    def __post_init__(self) -> None:
        last = -1
        for stage in self.stages:
            places = [COMPONENTS.index(component) for component in stage.components]
            assert places == list(range(places[0], places[-1] + 1))
            assert places[-1] >= last
            last = places[-1]
