"""Q-Diffusion (Li et al., ICCV 2023, arXiv 2302.04304): adaptive rounding, block by block.

Blocks are taken in running order. Each reads what the quantized blocks before it make and learns
to give what it gives in full precision (BRECQ, arXiv 2102.05426, with a plain squared error):
first which way its weights are rounded (AdaRound, arXiv 2004.10568) while its inputs stay
unrounded, then the activations' steps. Layers that read a concatenation get a grid for each part.

What differs: a one-step model has one timestep, so calibration over timesteps falls away. The VAE
is quantized too, and a component is finished before the next begins. The two parts of a split
share the weight's grid of each output channel, which lets them run as one integer convolution.
Its authors' code takes 20,000 and 5,000 steps of 32 samples for each block on a GPU; the default
here is what two CPU cores do in a quarter of an hour, at a rate as much higher.
"""

from __future__ import annotations

from pydantic import Field

from passionsr_cli.config import FitSettings, Settings
from passionsr_cli.methods.stages import (
    Grids,
    LayerDesign,
    Losses,
    ModuleOrder,
    Stage,
    Stages,
    StartBounds,
    Transformation,
)
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.models.modules import MODULE_KINDS, ModuleKind
from passionsr_cli.quantization.schemes import BoundsStart, Learnable


class QDiffusionSettings(Settings):
    """The method's two fits, with their steps for each block.

    `bounds_start` is where all bounds start; those of weights stay there. `modules` are the
    blocks; layers outside of them stand alone. `weights` learns the roundings: its rate is of
    their logits, of which about 2.4 lie between undecided and decided. `regularizer` is what
    being undecided adds to the error, as a share of it. `weights_only` leaves activations
    unrounded meanwhile, as published, which was worse here. `activations` learns the bounds of
    the activations in steps of their grids; the weights' stay.
    """

    bounds_start: BoundsStart = "mse"
    modules: tuple[ModuleKind, ...] = MODULE_KINDS
    split: bool = True
    weights: FitSettings = FitSettings(steps=40, learning_rate=0.3)
    regularizer: float = Field(1.0, ge=0)
    weights_only: bool = False
    activations: FitSettings = FitSettings(steps=20, learning_rate=0.5)


def stages(settings: QDiffusionSettings) -> tuple[LayerDesign, Stages]:
    """Component after component: roundings, then the activations' bounds, block by block."""
    design = LayerDesign(
        Transformation(split=settings.split),
        grids=Grids(settings.bounds_start),
        rounding="adaptive",
    )
    order = ModuleOrder("forwards", settings.modules)
    found = []
    for part in COMPONENTS:
        weights = Stage(
            f"{part} roundings",
            (part,),
            starts=(StartBounds(),),
            learns=frozenset({Learnable.ROUNDING}),
            fit=settings.weights,
            losses=Losses(output=0, module=1, rounding=settings.regularizer),
            modules=order,
            weights_only=settings.weights_only,
        )
        activations = Stage(
            f"{part} activations",
            (part,),
            learns=frozenset({Learnable.BOUNDS}),
            fit=settings.activations,
            losses=Losses(output=0, module=1),
            modules=order,
        )
        found += [weights, activations]
    return design, tuple(found)
