"""Forecast of a calibration's time, from one timed pass through each component."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from passionsr_cli.allocation.layer_plans import bits_of
from passionsr_cli.bits import FLOAT_BITS
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.layers.convert import find_layers
from passionsr_cli.methods.stages import Method, Stage
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.components import COMPONENTS, component_of
from passionsr_cli.models.modules import modules_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.affine import fake_quantize, grid_between
from passionsr_cli.quantization.schemes import ATTENTION, Scheme

# A pass that observes values, one that rounds them and a step of learning, in passes of the
# full-precision model in float32, even where a step runs in bf16: most of it rounds, which gains
# nothing by that. Measured on `mini` and on the architecture of Stable Diffusion 2.1, on CPUs.
OBSERVING_PASSES, ROUNDING_PASSES, STEP_PASSES = 1.7, 1.9, 5.0
# Blocks that are computed again run forwards twice, which is two fifths of rounding a weight.
CHECKPOINTED_STEP_PASSES, CHECKPOINTED_ROUNDINGS = 6.5, 1.4
# What a stage does is measured on so many images.
COMPARED_IMAGES = 8
# A first pass prepares kernels and buffers: one that is over sooner than this is timed again.
SHORT_SECONDS = 2.0


@dataclass(frozen=True)
class Pace:
    """Seconds that a component takes in float32: for an `image` that passes through it, and for its
    `weights` to be rounded, forwards and backwards, which a step does whatever the image."""

    image: float
    weights: float


@dataclass(frozen=True)
class StageWork:
    """Expected seconds of a stage: `observing` is all that is not learning."""

    name: str
    observing: float
    learning: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.observing + self.learning


@dataclass(frozen=True)
class Forecast:
    """Expected work of a calibration: seconds of the full-precision model's images, and stages."""

    full_precision: float
    stages: Mapping[str, StageWork]

    def __str__(self) -> str:
        """'takes about 134 minutes: full precision 8.0, encoder 24, unet 46, decoder 56'."""
        parts = {"full precision": self.full_precision}
        parts |= {name: work.seconds for name, work in self.stages.items()}
        whole = sum(parts.values())
        if whole < 60:
            return "takes less than a minute"
        shown = ", ".join(f"{name} {_minutes(seconds)}" for name, seconds in parts.items())
        return f"takes about {_minutes(whole)} minutes: {shown}"


def forecast(
    model: OneStepModel,
    settings: CalibrationSettings,
    method: Method,
    images: int,
    pace: Mapping[str, Pace],
) -> Forecast:
    """Foresee the work of a model that is not quantized yet, over so many images, by its pace."""
    quantized = [
        name for name, kind, _ in find_layers(model) if _is_quantized(settings, name, kind)
    ]
    components = {component_of(name) for name in quantized}
    stages = {}
    for stage in method.stages:
        if components.isdisjoint(stage.components):
            continue
        steps = 0 if stage.fit is None else stage.fit.steps
        if stage.modules is not None:
            kinds = stage.modules.kinds
            found = modules_of(model, quantized, kinds)
            steps *= sum(module.component in stage.components for module in found)
        image = {name: each.image for name, each in pace.items()}
        weights = {name: each.weights for name, each in pace.items()}
        passes, roundings = STEP_PASSES, 1.0
        if settings.gradient_checkpointing:
            passes, roundings = CHECKPOINTED_STEP_PASSES, CHECKPOINTED_ROUNDINGS
        learning = passes * settings.batch_size * _sum(image, stage.chain)
        learning = steps * (learning + roundings * _sum(weights, stage.chain))
        stages[stage.name] = StageWork(
            stage.name, _observing(stage, images, bool(steps), image), learning
        )
    return Forecast(images * sum(each.image for each in pace.values()), stages)


def _is_quantized(settings: CalibrationSettings, name: str, kind: str) -> bool:
    bits = bits_of(settings, name)
    return bits.activation < FLOAT_BITS if kind == ATTENTION else not bits.floating


def _observing(stage: Stage, images: int, learns: bool, pace: Mapping[str, float]) -> float:
    """Seconds of all that a stage does but learning, with so many images."""
    first = COMPONENTS.index(stage.components[0])
    inputs = ROUNDING_PASSES * _sum(pace, COMPONENTS[:first][-1:])
    own = _sum(pace, stage.components)
    starts = OBSERVING_PASSES * len(stage.starts) * own
    # What comes after it rounds nothing yet.
    judged = ROUNDING_PASSES * own + _sum(pace, COMPONENTS[first:]) - own
    if learns:
        # Its error before and after.
        judged += 2 * ROUNDING_PASSES * _sum(pace, stage.chain)
    return images * (inputs + starts) + min(images, COMPARED_IMAGES) * judged


@torch.no_grad()
def measure_pace(model: OneStepModel, image: Tensor) -> dict[str, Pace]:
    """Time an upscaled image (1, 3, H, W) through each component, and the rounding of weights."""
    x, pace = image, {}
    for component in COMPONENTS:
        chain, taken = Chain(model, (component,)), 0.0
        for name, weight in model.named_parameters():
            if component_of(name) == component:
                # From the disk, where a file's pages are not in memory yet.
                weight.sum().item()
        for _ in range(2):
            started = time.perf_counter()
            made = chain(x)
            # Reading a value waits for a GPU.
            made.sum().item()
            taken = time.perf_counter() - started
            if taken > SHORT_SECONDS:
                break
        x, pace[component] = made, Pace(taken, _rounding_seconds(model, component))
    return pace


@torch.enable_grad()
def _rounding_seconds(model: OneStepModel, component: str) -> float:
    """Seconds for a component's weights, as many as they are, by its largest layer's."""
    layers = [each for name, _, each in find_layers(model) if component_of(name) == component]
    weights = [each.weight for each in layers if isinstance(each, (nn.Conv2d, nn.Linear))]
    if not weights:
        return 0.0
    largest, taken = max(weights, key=Tensor.numel), 0.0
    scale = torch.ones_like(largest[:1], requires_grad=True)
    bound = largest.detach().flatten(1).abs().amax(1).requires_grad_()
    for _ in range(2):
        started = time.perf_counter()
        grid = grid_between(-bound, bound, Scheme(8, symmetric=True, channel_axis=0))
        rounded = fake_quantize(largest * scale, grid)
        # Reading a value waits for a GPU.
        torch.autograd.grad(rounded.sum(), [bound, scale])[0].sum().item()
        taken = time.perf_counter() - started
    return taken * sum(map(Tensor.numel, weights)) / largest.numel()


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"


def _sum(seconds: Mapping[str, float], components: Sequence[str]) -> float:
    return sum(seconds[component] for component in components)
