"""PassionSR (Zhu et al., CVPR 2025, arXiv 2411.17106): LBQ, LET and DQC."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from passionsr_cli.config import FitSettings, Settings
from passionsr_cli.methods.stages import (
    LBQ,
    LET,
    Grids,
    LayerDesign,
    Learnables,
    ShiftPolicy,
    Stage,
    Stages,
    StartBounds,
    Starts,
    StartTransform,
    Transformation,
)
from passionsr_cli.models.components import COMPONENTS, DECODER
from passionsr_cli.quantization.schemes import BoundsStart


class PassionSRSettings(Settings):
    """The method's parts, each of which can be left out (the paper's Table 4).

    `transformation` is LET, `distributed` is DQC: one component after the other, with LET and the
    bounds in one fit, `component`. `separate` fits them as published, first LET while the bounds
    follow the extremes, then LBQ started anew: every change of a scale then moves whole grids,
    and less is learned. Without `distributed` everything is learned at once from the image, in
    `joint`. Learning rates are in steps of each layer's grid. What belongs to a part that is left
    out is refused, but for fits, which a file may hold for several variants.
    """

    transformation: bool = True
    distributed: bool = True
    separate: bool = False
    channel_shift: ShiftPolicy = "unpadded"
    split: bool = True
    exponent: float = Field(0.5, ge=0, le=1)
    bounds_start: BoundsStart = "extremes"
    component: FitSettings = FitSettings(steps=100, learning_rate=1.0)
    let: FitSettings = FitSettings(steps=60, learning_rate=1.0)
    lbq: FitSettings = FitSettings(steps=80, learning_rate=0.25)
    joint: FitSettings = FitSettings(steps=200, learning_rate=0.15)
    decoder_target: Literal["teacher", "hr"] = "teacher"

    @model_validator(mode="after")
    def _nothing_idles(self) -> PassionSRSettings:
        idle = dict[str, str]()
        if not self.distributed:
            idle["separate"] = "distributed"
        if not self.transformation:
            of_transformation = ("separate", "channel_shift", "split", "exponent")
            idle |= dict.fromkeys(of_transformation, "transformation")
        for key, part in idle.items():
            if getattr(self, key) != PassionSRSettings.model_fields[key].default:
                raise ValueError(f"{key} does nothing without {part}; leave it out")
        return self


def stages(settings: PassionSRSettings) -> tuple[LayerDesign, Stages]:
    """Component after component (DQC), or all at once."""
    transformation, both = Transformation(), LBQ
    if settings.transformation:
        transformation = Transformation(True, settings.channel_shift, settings.split)
        both = LET | LBQ
    design = LayerDesign(transformation, grids=Grids(settings.bounds_start))
    if settings.distributed:
        return design, tuple(stage for part in COMPONENTS for stage in _component(part, settings))
    joint = Stage(
        "joint",
        COMPONENTS,
        starts=_starts(both, settings.exponent),
        learns=both,
        fit=settings.joint,
        target=settings.decoder_target,
    )
    return design, (joint,)


def _starts(learned: Learnables, exponent: float) -> Starts:
    """Starts of what is learned, the bounds last."""
    let: Starts = (StartTransform((exponent,)),) if learned >= LET else ()
    return (*let, StartBounds()) if learned >= LBQ else let


def _component(component: str, settings: PassionSRSettings) -> list[Stage]:
    """DQC (section 3.4): LET and LBQ of one component, together or one after the other."""

    def stage(name: str, parts: Learnables, fit: FitSettings) -> Stage:
        target = settings.decoder_target if component == DECODER else "teacher"
        return Stage(
            name,
            (component,),
            starts=_starts(parts, settings.exponent),
            learns=parts,
            fit=fit,
            target=target,
        )

    lbq = stage(f"{component} LBQ", LBQ, settings.lbq)
    if not settings.transformation:
        return [lbq]
    if settings.separate:
        return [stage(f"{component} LET", LET, settings.let), lbq]
    return [stage(component, LET | LBQ, settings.component)]
