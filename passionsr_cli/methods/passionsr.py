"""PassionSR (Zhu et al., CVPR 2025, arXiv 2411.17106): LBQ, LET and DQC."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from passionsr_cli.calibration.stages import (
    NO_TRANSFORMATION,
    Learns,
    ShiftPolicy,
    Stage,
    Stages,
    Transformation,
)
from passionsr_cli.config import FitSettings, Settings
from passionsr_cli.models.components import COMPONENTS, DECODER


class PassionSRSettings(Settings):
    """The method's parts, each of which can be left out (the paper's Table 4).

    `transformation` is LET, `distributed` is DQC: one component after the other, with LET and the
    bounds in one fit, `component`. `separate` fits them as published, first LET while the bounds
    follow the extremes, then LBQ started anew: every change of a scale then moves whole grids,
    and less is learned. Without `distributed` everything is learned at once from the image, in
    `joint`. Learning rates are in steps of each layer's grid.
    """

    transformation: bool = True
    distributed: bool = True
    separate: bool = False
    channel_shift: ShiftPolicy = "unpadded"
    split: bool = True
    exponent: float = Field(0.5, ge=0, le=1)
    component: FitSettings = FitSettings(steps=100, learning_rate=1.0)
    let: FitSettings = FitSettings(steps=60, learning_rate=1.0)
    lbq: FitSettings = FitSettings(steps=80, learning_rate=0.25)
    joint: FitSettings = FitSettings(steps=200, learning_rate=0.15)
    decoder_target: Literal["teacher", "hr"] = "teacher"


def stages(settings: PassionSRSettings) -> tuple[Transformation, Stages]:
    """Component after component (DQC), or all at once."""
    transformation = NO_TRANSFORMATION
    if settings.transformation:
        transformation = Transformation(
            True, settings.channel_shift, settings.split, settings.exponent
        )
    if settings.distributed:
        return transformation, tuple(
            stage for part in COMPONENTS for stage in _component(part, settings)
        )
    joint = Stage(
        "joint",
        COMPONENTS,
        starts_transform=settings.transformation,
        starts_bounds=True,
        learns=Learns.BOTH if settings.transformation else Learns.BOUNDS,
        fit=settings.joint,
        target=settings.decoder_target,
    )
    return transformation, (joint,)


def _component(component: str, settings: PassionSRSettings) -> list[Stage]:
    """DQC (section 3.4): LET and LBQ of one component, together or one after the other."""

    def stage(name: str, learns: Learns, fit: FitSettings) -> Stage:
        return Stage(
            name,
            (component,),
            starts_transform=settings.transformation and learns is not Learns.BOUNDS,
            starts_bounds=learns is not Learns.TRANSFORM,
            learns=learns,
            fit=fit,
            target=settings.decoder_target if component == DECODER else "teacher",
        )

    lbq = stage(f"{component} LBQ", Learns.BOUNDS, settings.lbq)
    if not settings.transformation:
        return [lbq]
    if settings.separate:
        return [stage(f"{component} LET", Learns.TRANSFORM, settings.let), lbq]
    return [stage(component, Learns.BOTH, settings.component)]
