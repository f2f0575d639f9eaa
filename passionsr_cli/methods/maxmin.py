"""MaxMin: bounds from the smallest and largest values, nothing learned."""

from __future__ import annotations

from passionsr_cli.config import Settings
from passionsr_cli.methods.stages import PLAIN, LayerDesign, Stage, Stages, StartBounds
from passionsr_cli.models.components import COMPONENTS


class MaxMinSettings(Settings):
    """There is nothing to set."""


def stages(settings: MaxMinSettings) -> tuple[LayerDesign, Stages]:
    """Weights between their extremes, activations between the moving averages of theirs."""
    stage = Stage("min-max", COMPONENTS, starts=(StartBounds(),))
    return PLAIN, (stage,)
