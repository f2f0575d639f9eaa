"""QArtSR (arXiv 2503.05584): RPQ, ET, and a quantizer with low-rank branches.

Its first part, TRQ, makes another model: `passionsr train --from`. No code is published; ranks,
rates and weights of losses are not stated in the paper and were searched here.
"""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, model_validator

from passionsr_cli.config import FitSettings, Settings
from passionsr_cli.methods.stages import (
    LBQ,
    Branches,
    Grids,
    LayerDesign,
    Learnables,
    Losses,
    MergedBranches,
    ModuleOrder,
    Ranks,
    Stage,
    Stages,
    StartBounds,
    StartBranches,
    StartTransform,
    Transformation,
)
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.models.modules import MODULE_KINDS, ModuleKind
from passionsr_cli.quantization.schemes import BoundsStart, Learnable, MergedStart

LEARNED: Learnables = frozenset({Learnable.TRANSFORM, Learnable.BRANCH, Learnable.MERGED}) | LBQ


class QArtSRSettings(Settings):
    """The method's parts, ranks and weights.

    `ranks` are of the branch L₁L₂ that runs beside a layer in 16 bits, `merged_ranks` of F₁F₂,
    which costs nothing at run time; their keys, and `narrowest_branch`, are those of
    `methods.stages.Branches`. Channel scales 1/φ start with this `exponent`, L₁L₂ from the scaled
    weight, as SVDQuant's (arXiv 2411.05007), and F₁F₂ at zero or from what rounding leaves,
    `merged_start`. `modules` are what is quantized at a time by RPQ, with the steps of `module`
    each, by default about as many of all modules together as `end_to_end`, which is ET, has; None
    leaves either out. Rates are small: where all of this starts is near already, and larger ones
    move the branches, which are of 16 bits, further away than they learn back.
    """

    ranks: Ranks = Field({"linear": 32, "convolution": 32, "pointwise": 32})
    narrowest_branch: NonNegativeInt = 0
    merged_ranks: Ranks = Field({"linear": 8, "convolution": 8, "pointwise": 8})
    merged_start: MergedStart = "zero"
    exponent: float = Field(0.7, ge=0, le=1)
    bounds_start: BoundsStart = "mse"
    modules: tuple[ModuleKind, ...] = MODULE_KINDS
    module: FitSettings | None = FitSettings(steps=9, learning_rate=0.02)
    module_weight: float = Field(0.5, ge=0)
    end_to_end: FitSettings | None = FitSettings(steps=300, learning_rate=0.02)
    perceptual_weight: float = Field(0.05, ge=0)
    output_weight: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _fits_lower_something(self) -> QArtSRSettings:
        of_image = self.output_weight + self.perceptual_weight
        if not of_image and self.end_to_end is not None:
            raise ValueError(
                "output_weight and perceptual_weight are 0, so end_to_end has no loss; give one of "
                "them more, or end_to_end: null"
            )
        if not of_image + self.module_weight and self.module is not None:
            raise ValueError(
                "output_weight, perceptual_weight and module_weight are 0, so module has no loss; "
                "give one of them more, or module: null"
            )
        return self


def stages(settings: QArtSRSettings) -> tuple[LayerDesign, Stages]:
    """Modules from the output back to the input, then everything at once."""
    design = LayerDesign(
        Transformation(channel_scale=True, split=True),
        Branches(settings.ranks, settings.narrowest_branch),
        MergedBranches(settings.merged_ranks, settings.merged_start),
        Grids(settings.bounds_start),
    )
    image = Losses(output=settings.output_weight, perceptual=settings.perceptual_weight)
    order = ModuleOrder("backwards", settings.modules, learn_on=True)
    starts = (StartTransform((settings.exponent,)), StartBranches(), StartBounds())
    learned = LEARNED & design.learnable
    found = []
    for number in reversed(range(len(COMPONENTS))):
        found.append(
            Stage(
                f"RPQ {COMPONENTS[number]}",
                (COMPONENTS[number],),
                starts=starts,
                learns=learned,
                fit=settings.module,
                losses=Losses(image.output, image.perceptual, module=settings.module_weight),
                through=COMPONENTS[number + 1 :],
                modules=order,
            )
        )
    if settings.end_to_end is not None:
        found.append(Stage("ET", COMPONENTS, learns=learned, fit=settings.end_to_end, losses=image))
    return design, tuple(found)
