"""EfficientDM (He et al., ICLR 2024, arXiv 2310.03270): merged adapters and learned steps.

A low-rank adapter is added to each frozen weight and rounded with it (QALoRA), so that nothing of
it is left at run time. It learns together with the steps, LSQ's, from what the full-precision
model makes of the same images: no photographs are needed as targets.

Of its step sizes for each timestep (TALSQ) a one-step model needs one set. Its scale-aware
optimisation gives each layer's adapter a learning rate proportional to the steps of its weight:
here the factors of every adapter are learned as multiples of their size at the start, in steps
of the weight's grid, which comes to the same. The paper leaves the VAE in full precision.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from passionsr_cli.config import FitSettings, Settings
from passionsr_cli.methods.stages import (
    LBQ,
    Grids,
    LayerDesign,
    Learnables,
    MergedBranches,
    Offsets,
    Ranks,
    Stages,
    StartBounds,
    component_stages,
)
from passionsr_cli.quantization.schemes import BoundsStart, Learnable

LEARNED: Learnables = LBQ | {Learnable.MERGED}


class EfficientDMSettings(Settings):
    """Ranks, targets and rates.

    The paper: rank 32 everywhere, adapters that start at zero, bounds that round best, the UNet's
    noise as its target, Adam with rates that fall to zero: 5e-4 for activations, 1e-6 for the
    steps of weights, 1/2500 of a layer's step for its adapter, over 16 000 iterations.
    `merged_ranks` has kinds of layers as keys, see `methods.stages.Branches`.
    """

    merged_ranks: Ranks = Field({"linear": 32, "convolution": 32, "pointwise": 32})
    merged_start: Literal["zero", "residual"] = "zero"
    bounds_start: BoundsStart = "mse"
    offsets: Offsets = "all"
    unet_target: Literal["noise", "teacher"] = "noise"
    fit: FitSettings = FitSettings(steps=140, learning_rate=0.15)


def stages(settings: EfficientDMSettings) -> tuple[LayerDesign, Stages]:
    """Adapters and steps of one component after the other."""
    scaled_gradient = settings.fit.optimizer == "sgd"
    design = LayerDesign(
        merged=MergedBranches(settings.merged_ranks, settings.merged_start),
        grids=Grids(settings.bounds_start, settings.offsets, scaled_gradient),
    )
    learned = LEARNED & design.learnable
    return design, component_stages((StartBounds(),), learned, settings.fit, settings.unet_target)
