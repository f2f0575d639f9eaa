"""MaxMin: bounds from the smallest and largest values, nothing learned."""

from __future__ import annotations

from passionsr_cli.calibration.stages import NO_TRANSFORMATION, Stage, Stages, Transformation
from passionsr_cli.config import Settings
from passionsr_cli.models.components import COMPONENTS


class MaxMinSettings(Settings):
    """There is nothing to set."""


def stages(settings: MaxMinSettings) -> tuple[Transformation, Stages]:
    """Weights between their extremes, activations between the moving averages of theirs."""
    stage = Stage("min-max", COMPONENTS, starts_transform=False, starts_bounds=True)
    return NO_TRANSFORMATION, (stage,)
