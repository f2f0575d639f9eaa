"""MaxMin: bounds from the smallest and largest values, nothing learned."""

from __future__ import annotations

from passionsr_cli.config import Settings
from passionsr_cli.methods.stages import LBQ, PLAIN, LayerDesign, Stage, Stages
from passionsr_cli.models.components import COMPONENTS


class MaxMinSettings(Settings):
    """There is nothing to set."""


def stages(settings: MaxMinSettings) -> tuple[LayerDesign, Stages]:
    """Weights between their extremes, activations between the moving averages of theirs."""
    stage = Stage("min-max", COMPONENTS, starts=LBQ)
    return PLAIN, (stage,)
