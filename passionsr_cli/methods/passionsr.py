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

    `transformation` is LET, `distributed` is DQC: one component after the other, LET before LBQ.
    Without it everything is learned at once from the image, in `joint`.
    """

    transformation: bool = True
    distributed: bool = True
    channel_shift: ShiftPolicy = "unpadded"
    split: bool = True
    exponent: float = Field(0.5, ge=0, le=1)
    let: FitSettings = FitSettings(steps=60, learning_rate=0.06)
    lbq: FitSettings = FitSettings(steps=80, learning_rate=0.015)
    joint: FitSettings = FitSettings(steps=200, learning_rate=0.01)
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
    """LET, then LBQ started anew from what LET made (DQC, section 3.4)."""
    target = settings.decoder_target if component == DECODER else "teacher"
    let = []
    if settings.transformation:
        let.append(
            Stage(
                f"{component} LET",
                (component,),
                starts_transform=True,
                starts_bounds=False,
                learns=Learns.TRANSFORM,
                fit=settings.let,
                target=target,
            )
        )
    lbq = Stage(
        f"{component} LBQ",
        (component,),
        starts_transform=False,
        starts_bounds=True,
        fit=settings.lbq,
        target=target,
    )
    return [*let, lbq]
