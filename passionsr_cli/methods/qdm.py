"""Q-DM (Li et al., NeurIPS 2023): smoothed attention and mimicked noise.

Timestep-aware quantization (TaQ) normalises q and k by statistics of the timestep before they
are rounded, and the network is trained with that. A one-step model has one timestep, and with
frozen weights q·kᵀ must stay what it was: what is left is a scale of each channel, q/s and k·s,
under which q and k deviate equally, s = √(σ_q / σ_k) over the calibration images; their means stay
in them. Noise-estimating mimicking (NeM) has the quantized UNet's noise follow that of full
precision; the encoder and the decoder, which the paper does not have, follow theirs. The steps
are LSQ's.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from passionsr_cli.config import FitSettings, Settings
from passionsr_cli.methods.stages import (
    LBQ,
    Grids,
    LayerDesign,
    Offsets,
    Stages,
    StartBounds,
    StartTransform,
    Transformation,
    component_stages,
)
from passionsr_cli.quantization.schemes import BoundsStart


class QDMSettings(Settings):
    """Settings of QDM: how q and k are smoothed, and how steps start and learn.

    The paper: LSQ's starts, and no offsets, which count on weights that learn. An `exponent` of
    0.5 makes deviations equal, 0 leaves q and k as they are.
    """

    exponent: float = Field(0.5, ge=0, le=1)
    bounds_start: BoundsStart = "mse"
    offsets: Offsets = "all"
    unet_target: Literal["noise", "teacher"] = "noise"
    fit: FitSettings = FitSettings(steps=140, learning_rate=0.15)


def stages(settings: QDMSettings) -> tuple[LayerDesign, Stages]:
    """Scales from statistics, then the steps, of one component after the other."""
    scaled_gradient = settings.fit.optimizer == "sgd"
    design = LayerDesign(
        Transformation(attention_scale="deviations"),
        grids=Grids(settings.bounds_start, settings.offsets, scaled_gradient),
    )
    starts = (StartTransform((settings.exponent,)), StartBounds())
    return design, component_stages(starts, LBQ, settings.fit, settings.unet_target)
