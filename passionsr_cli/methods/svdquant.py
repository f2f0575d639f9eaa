"""SVDQuant (Li et al., ICLR 2025, arXiv 2411.05007): outliers go into a 16-bit branch.

Smoothing moves outliers from the activations into the weights, X̂ = X/λ and Ŵ = λ ⊙ W; a branch
L₁L₂ of the largest singular values of Ŵ takes them up in 16 bits, and what is left of Ŵ is
rounded to 4, to the nearest or by GPTQ (arXiv 2210.17323). Nothing is learned.

What differs: the paper quantizes the linear layers of transformers, with a step for every 64
values, found at run time for activations; here every layer is quantized, convolutions included,
with one static pair of bounds for activations and one for each output channel of a weight, as
integer convolutions run. The branch reads X as it is, since λ is folded into L₂.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat

from passionsr_cli.config import Settings
from passionsr_cli.methods.stages import (
    Branches,
    Grids,
    LayerDesign,
    Ranks,
    RoundByGPTQ,
    Stage,
    Stages,
    StartBounds,
    StartBranches,
    Starts,
    StartTransform,
    Transformation,
)
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.quantization.schemes import BoundsStart


class SVDQuantSettings(Settings):
    """Settings of SVDQuant: ranks, exponents, bounds and rounding.

    `ranks` are of the branch, for each kind of layers, see `methods.stages.Branches`; 32
    is the paper's, whose transformers have it beside every layer. `bounds_start` says where the
    bounds are. `exponents` are what a of λ = max|X|^a / max|W|^a may be: each layer takes the one
    that, with its branch, gives its output best. `rounding` is that of the residual.
    """

    ranks: Ranks = Field({"linear": 32, "convolution": 32, "pointwise": 32})
    bounds_start: BoundsStart = "mse"
    exponents: tuple[NonNegativeFloat, ...] = Field((0.7,), min_length=1)
    split: bool = True
    rounding: Literal["nearest", "gptq"] = "gptq"


def stages(settings: SVDQuantSettings) -> tuple[LayerDesign, Stages]:
    """Component after component: smooth, take out the branch, round what is left."""
    design = LayerDesign(
        Transformation(channel_scale=True, split=settings.split),
        Branches(settings.ranks),
        grids=Grids(settings.bounds_start),
        rounding=settings.rounding,
    )
    starts: Starts = (
        StartTransform(settings.exponents, branches=True),
        StartBranches(),
        StartBounds(),
        *((RoundByGPTQ(),) if settings.rounding == "gptq" else ()),
    )
    return design, tuple(Stage(part, (part,), starts=starts) for part in COMPONENTS)
