"""Calibration methods as data: a design of layers and an ordered list of stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, NonNegativeInt

from passionsr_cli.config import FitSettings
from passionsr_cli.models.components import COMPONENTS, UNET
from passionsr_cli.models.modules import MODULE_KINDS, ModuleKind
from passionsr_cli.quantization.schemes import (
    BoundsStart,
    Learnable,
    MergedStart,
    Rounding,
    ScaleStart,
    State,
)
from passionsr_cli.system.text import suggestion

ShiftPolicy = Literal["none", "unpadded", "all"]
Order = Literal["forwards", "backwards"]
Offsets = Literal["none", "activations", "all"]
Target = Literal["teacher", "noise", "hr"]
Learnables = frozenset[Learnable]

LET: Learnables = frozenset({Learnable.TRANSFORM})
LBQ: Learnables = frozenset({Learnable.BOUNDS, Learnable.WEIGHT_BOUNDS})
KINDS = ("linear", "convolution", "pointwise")


def _kind(key: str) -> str:
    known = (*KINDS, *(f"{component}.{kind}" for component in COMPONENTS for kind in KINDS))
    if key not in known:
        raise ValueError(
            f"'{key}' is no kind of layers; write {', '.join(KINDS)}, or one of them behind its "
            f"component, {', '.join(COMPONENTS)}, as unet.linear{suggestion(key, known)}"
        )
    return key


# What settings say of `Branches` and `MergedBranches`.
Ranks = dict[Annotated[str, AfterValidator(_kind)], NonNegativeInt]


@dataclass(frozen=True)
class Transformation:
    """Equivalent transformations of inputs and weights (LET, PassionSR, arXiv 2411.17106).

    `channel_shift` in padded convolutions costs an executor an explicit border, so `unpadded`
    leaves those out. With `split` the parts of a concatenated input have grids of their own, folded
    into one. `attention_scale` gives q·kᵀ alone channel scales, which start from these statistics
    of q and k.
    """

    channel_scale: bool = False
    channel_shift: ShiftPolicy = "none"
    split: bool = False
    attention_scale: ScaleStart | None = None


@dataclass(frozen=True)
class Branches:
    """Low-rank branches beside the layers.

    Keys of `ranks` are `convolution` (kernels over 1×1), `pointwise`, `linear`, or one of these
    behind a component, as in `unet.linear`, which then counts there; none without one. Beside
    layers of fewer than `narrowest` channels, in or out, there is none: what a branch costs is
    reading X once more, which the integer product of a wide layer outweighs.
    """

    ranks: Ranks = field(default_factory=dict)
    narrowest: int = 0


@dataclass(frozen=True)
class MergedBranches:
    """Low-rank branches merged into the weights; `ranks` as those of `Branches`."""

    ranks: Ranks = field(default_factory=dict)
    start: MergedStart = "zero"


@dataclass(frozen=True)
class Grids:
    """Bounds of the grids: where they start, what they may be, how they learn.

    They start from the extremes, LSQ's steps, or what rounds a sample best. `offsets` says which
    asymmetric grids may have any zero point; the others are LSQ's (`quantization.schemes.Scheme`),
    and so is the factor of a `scaled_gradient`.
    """

    bounds_start: BoundsStart = "extremes"
    offsets: Offsets = "all"
    scaled_gradient: bool = False


@dataclass(frozen=True)
class LayerDesign:
    """Design of the layers that a method quantizes."""

    transformation: Transformation = Transformation()
    branches: Branches = Branches()
    merged: MergedBranches = MergedBranches()
    grids: Grids = Grids()
    rounding: Rounding = "nearest"

    @property
    def learnable(self) -> Learnables:
        """The parts that such layers have; without ranks there are no branches."""
        form = self.transformation
        scaled = form.channel_scale or form.channel_shift != "none" or form.attention_scale
        there = {
            Learnable.TRANSFORM: bool(scaled),
            Learnable.BRANCH: any(self.branches.ranks.values()),
            Learnable.MERGED: any(self.merged.ranks.values()),
            Learnable.ROUNDING: self.rounding == "adaptive",
        }
        return LBQ | {part for part, held in there.items() if held}


PLAIN = LayerDesign()


@dataclass(frozen=True)
class StartBranches:
    """Branches L₁L₂ from the largest singular values of the weight times its channel scales as
    they are by then."""


@dataclass(frozen=True)
class StartTransform:
    """Channel scales max|X|^a / max|W|^a from what is observed.

    Of several `exponents` a each layer takes the one that suits it best, beside the branch it
    gives if `branches`.
    """

    exponents: tuple[float, ...] = (0.5,)
    branches: bool = False


@dataclass(frozen=True)
class StartBounds:
    """Bounds from what is observed through the transformation, and what depends on them: F₁F₂ and
    the roundings."""


@dataclass(frozen=True)
class RoundByGPTQ:
    """Roundings decided layer by layer, each making up for those before it (arXiv 2210.17323)."""


# The one that has fields is first: of several faults the first is told.
Start: TypeAlias = StartTransform | StartBranches | StartBounds | RoundByGPTQ
Starts: TypeAlias = tuple[Start, ...]


@dataclass(frozen=True)
class Losses:
    """Losses of a fit: a weighted sum of relative squared errors and penalties.

    `output` is of what the chain makes, towards the stage's target, `perceptual` a distance of
    images (LPIPS or what stands for it), `module` of what the module in turn makes, towards what
    it makes in full precision. `rounding` is the undecided part of the roundings as a share of
    all these, so that it weighs alike at every width.
    """

    output: float = 1.0
    perceptual: float = 0.0
    module: float = 0.0
    rounding: float = 0.0


@dataclass(frozen=True)
class ModuleOrder:
    """Modules are quantized and learned one after the other, in this order; which they are.

    The others are still in full precision, or quantized already; those learn on if `learn_on`.
    """

    order: Order
    kinds: tuple[ModuleKind, ...] = MODULE_KINDS
    learn_on: bool = False


@dataclass(frozen=True)
class Stage:
    """One step of a method on neighbouring components.

    First the steps of `starts` are taken, in order, on what the components before them make,
    quantized as far as they are by then. Then `learns` is fitted so that `losses` of the output
    fall; nothing if `fit` is None. The output is that of the last component, or of
    the last of `through`, components after them that are quantized already and learn on. The
    target is the teacher's output at the same place, or the photograph; with `noise`, after the
    UNet, what both sides see as noise in their latents is compared instead of what is left of it.

    With `modules` the fit has its steps for each module instead of for all. With `weights_only`
    what passes through the components is not rounded meanwhile.
    """

    name: str
    components: tuple[str, ...]
    starts: Starts = ()
    learns: Learnables = LBQ
    fit: FitSettings | None = None
    losses: Losses = Losses()
    target: Target = "teacher"
    through: tuple[str, ...] = ()
    modules: ModuleOrder | None = None
    weights_only: bool = False

    @property
    def chain(self) -> tuple[str, ...]:
        """The components that run."""
        return self.components + self.through

    @property
    def state(self) -> State:
        """Bounds follow the transformation while it alone is learned."""
        if self.weights_only:
            return State.WEIGHTS_ONLY
        return State.FOLLOWING if self.learns == LET else State.QUANTIZING


Stages = tuple[Stage, ...]


def component_stages(
    starts: Starts, learns: Learnables, fit: FitSettings | None, unet_target: Target
) -> Stages:
    """One component after the other, from the encoder to the decoder."""
    return tuple(
        Stage(
            component,
            (component,),
            starts=starts,
            learns=learns,
            fit=fit,
            target=unet_target if component == UNET else "teacher",
        )
        for component in COMPONENTS
    )


@dataclass(frozen=True)
class Method:
    """A calibration method.

    `settings` are what it was made from, complete, for the checkpoint's manifest.
    """

    name: str
    settings: dict[str, Any]
    design: LayerDesign
    stages: Stages
