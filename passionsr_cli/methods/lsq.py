"""LSQ (Esser et al., ICLR 2020, arXiv 1902.08153): learned step sizes.

Its offsets for activations are LSQ+ (Bhalgat et al., 2020, arXiv 2004.09576).

LSQ trains weights and steps together, for up to 90 epochs of ImageNet. In a calibration weights
are frozen and steps alone are learned, from the same kind of loss: that of the whole model's
result. In place of labels the full-precision model says what that should be.
"""

from __future__ import annotations

from passionsr_cli.config import FitSettings, Settings
from passionsr_cli.methods.stages import (
    LBQ,
    Grids,
    LayerDesign,
    Offsets,
    Stage,
    Stages,
    StartBounds,
    component_stages,
)
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.quantization.schemes import BoundsStart


class LSQSettings(Settings):
    """Settings of LSQ and LSQ+: how steps start and learn.

    The paper: no offsets, `lsq` starts, SGD with momentum 0.9 and a cosine schedule, whose rate
    of 0.01 is that of weights and steps together. LSQ+: offsets of activations, `mse` starts.
    Adam needs no factor on the gradients of steps, so there is one with `sgd` alone.
    Both papers count on weights that learn; where these are frozen their grids need offsets too.
    `distributed` fits one component after the other to its own output instead of all at once to
    the image. As in every method here a weight has a step for each output channel, not one
    (`weight_grids: tensor`), and 8-bit weights are symmetric.
    """

    offsets: Offsets = "all"
    bounds_start: BoundsStart = "mse"
    distributed: bool = False
    fit: FitSettings = FitSettings(steps=200, learning_rate=0.15)


def stages(settings: LSQSettings) -> tuple[LayerDesign, Stages]:
    """All steps at once, or those of one component after the other."""
    scaled_gradient = settings.fit.optimizer == "sgd"
    design = LayerDesign(grids=Grids(settings.bounds_start, settings.offsets, scaled_gradient))
    starts = (StartBounds(),)
    if settings.distributed:
        return design, component_stages(starts, LBQ, settings.fit, "teacher")
    return design, (Stage("steps", COMPONENTS, starts=starts, learns=LBQ, fit=settings.fit),)
