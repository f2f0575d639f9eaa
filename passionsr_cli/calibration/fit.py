"""Fitting one stage: what learns, how fast, towards what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from passionsr_cli.calibration.curve import Curve
from passionsr_cli.calibration.losses import StageLoss
from passionsr_cli.calibration.module_schedule import ModuleSchedule
from passionsr_cli.config import FitSettings
from passionsr_cli.fitting import loop
from passionsr_cli.layers.convert import Learning
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.methods.stages import Learnables, Stage
from passionsr_cli.quantization.quantizer import Quantizer
from passionsr_cli.quantization.schemes import Learnable

OBJECTIVE = "error"
# A loss this many times its lowest is a run that diverges, not one image harder than another.
DIVERGENCE = 10.0

Learned = dict[str, Learning]


class LearnedState:
    """Everything a calibration learns about some layers, apart from their frozen weights."""

    def __init__(self, layers: Learned) -> None:
        self.modules = {
            f"{name}.{part.value}.{number}": module
            for name, layer in layers.items()
            for part, modules in layer.learnable().items()
            for number, module in enumerate(modules)
        }

    def state_dict(self) -> dict[str, Any]:
        return {name: module.state_dict() for name, module in self.modules.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(state_dict[name])


def parameter_groups(
    layers: Learned, learns: Learnables, rates: Mapping[Any, float]
) -> list[dict[str, Any]]:
    """The parameters of some layers that a stage learns, as groups of an optimizer.

    Most are relative to where they started, so a grid of b bits has steps of about 2^-b of them:
    each group's factor schedule learning rates given in steps of its grid into the parameters'.
    What is merged into a weight is in steps of the weight's grid (EfficientDM, arXiv 2310.03270).
    Roundings are of one step as they are. `rates` multiplies those of single parts.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for layer in layers.values():
        for part, modules in layer.learnable().items():
            if part not in learns:
                continue
            for module in modules:
                scheme = module.scheme if isinstance(module, Quantizer) else None
                if part is Learnable.MERGED and isinstance(layer, LearningLayer):
                    scheme = layer.plan.weight
                bits = layer.most_bits() if scheme is None else scheme.num_bits
                steps = 1.0 if part is Learnable.ROUNDING else 2.0**-bits
                factor = steps * rates.get(part.value, 1.0)
                groups.setdefault(factor, []).extend(module.parameters())
    return [
        {"params": parameters, "learning_rate_factor": factor}
        for factor, parameters in groups.items()
        if parameters
    ]


def batch_numbers(count: int, batch_size: int, seed: int, first: int) -> Iterator[list[int]]:
    """Numbers of the images in batch `first`, `first` + 1, …: shuffled anew in each epoch."""
    batches = max(1, count // batch_size)
    size = min(batch_size, count)
    epoch, place = divmod(first, batches)
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(count)
        for start in range(place, batches):
            yield [int(number) for number in order[start * size : (start + 1) * size]]
        epoch, place = epoch + 1, 0


def learning_rate(fit: FitSettings) -> Callable[[int], float]:
    """The learning rate of each step."""
    if fit.schedule == "milestones":
        return loop.milestones(fit.learning_rate, fit.steps, fit.milestones, fit.decay)
    return loop.cosine(fit.learning_rate, fit.final_learning_rate, fit.steps)


def optimizer_of(groups: list[dict[str, Any]], fit: FitSettings) -> torch.optim.Optimizer:
    """The optimizer that a fit names, of `parameter_groups`."""
    if fit.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=fit.learning_rate, momentum=0.9, fused=True)
    return torch.optim.Adam(groups, lr=fit.learning_rate, fused=True)


def build(
    stage: Stage,
    chain: nn.Module,
    layers: Learned,
    loss: StageLoss,
    schedule: ModuleSchedule | None,
    curve: Curve,
    accelerator: Accelerator,
    file: Path,
    save_every_seconds: float,
) -> loop.Fit:
    """The optimisation of one stage, in which these layers of the chain learn, at once or in
    turns, and every step of which is noted in the curve. Batches hold what the loss reads. Without
    anything that learns it has no steps."""
    assert stage.fit is not None
    steps_each = stage.fit.steps
    groups = parameter_groups(layers, stage.learns, stage.fit.rates)
    if not groups:
        # Attentions have no roundings to learn: where they alone are quantized nothing is left.
        return loop.Fit(stage.name, 0, (), {}, accelerator, file, save_every_seconds)
    parameters = [parameter for group in groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.requires_grad_(True)
    prepared = accelerator.prepare(chain)
    optimizer = accelerator.prepare(optimizer_of(groups, stage.fit))
    rate = learning_rate(stage.fit) if schedule is None else schedule.rate(learning_rate(stage.fit))
    last_batch: loop.Batch = {}

    def loss_of(batch: loop.Batch) -> Tensor:
        last_batch.update(batch)
        module = None if schedule is None else schedule.enter(running.step)
        return loss(prepared, batch, module, running.step % steps_each / steps_each)

    def after_step(step: int) -> None:
        curve.note(stage.name, step, running.losses[OBJECTIVE], rate(step - 1))

    def locate() -> str:
        return trouble(chain, layers, last_batch["x"])

    objective = loop.Objective(
        OBJECTIVE,
        parameters,
        optimizer,
        loss_of,
        rate,
        stage.fit.gradient_clip,
    )
    running = loop.Fit(
        name=stage.name,
        steps=stage.fit.steps if schedule is None else schedule.steps,
        objectives=[objective],
        tracked={"layers": LearnedState(layers), "curve": curve},
        accelerator=accelerator,
        file=file,
        save_every_seconds=save_every_seconds,
        after_step=after_step,
        # From one module to the next losses jump.
        divergence=DIVERGENCE if schedule is None else math.inf,
        locate=locate,
    )
    return running


@torch.no_grad()
def trouble(chain: nn.Module, layers: Learned, x: Tensor) -> str:
    """The layer that spoils the output: the first whose result, or what it learned, is not finite,
    else the one that clips the largest share of its input."""
    broken: list[str] = []
    clipped: dict[str, float] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def look(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            learned = list(layer.parameters())
            if not all(bool(tensor.isfinite().all()) for tensor in (output, *learned)):
                broken.append(name)
            if isinstance(layer, LearningLayer):
                clipped[name] = layer.clipped_share(inputs[0])

        return look

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        chain(x)
    finally:
        for hook in hooks:
            hook.remove()
    if broken:
        return f"first in layer {broken[0]}"
    name = max(clipped, key=lambda key: clipped[key])
    return f"layer {name} clips most, {clipped[name]:.0%} of its input"
