"""Module-wise schedule: which module of a fit learns at which step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from passionsr_cli.layers.convert import Learning, set_state
from passionsr_cli.methods.stages import Learnables, Stage
from passionsr_cli.models.modules import Module, modules_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import State


@dataclass(frozen=True)
class ModuleSchedule:
    """Modules in the order in which they are quantized, each for the same number of steps.

    A module is in `state` from its turn on.

    Which step it is decides everything, so that a fit can be resumed at any of them.
    """

    model: OneStepModel
    modules: tuple[Module, ...]
    layers: dict[str, Learning]
    steps_each: int
    learn_on: bool
    state: State

    @property
    def steps(self) -> int:
        return self.steps_each * len(self.modules)

    def enter(self, step: int) -> nn.Module:
        """Quantize the layers whose modules had or have their turn, let those learn that do,
        and return the module in turn."""
        turn = min(step // self.steps_each, len(self.modules) - 1)
        for number, module in enumerate(self.modules):
            members = [self.layers[name] for name in module.layers]
            set_state(members, self.state if number <= turn else State.FLOAT)
            learns = number == turn or (self.learn_on and number < turn)
            for layer in members if not learns else ():
                layer.requires_grad_(False)
        return self.model.get_submodule(self.modules[turn].name)

    def rate(self, schedule: Callable[[int], float]) -> Callable[[int], float]:
        """A learning rate that starts anew with each turn."""
        return lambda step: schedule(step % self.steps_each)


def schedule_modules(
    model: OneStepModel, layers: dict[str, Learning], stage: Stage
) -> ModuleSchedule:
    """The turns that the modules of a stage's components have in its fit: those that learn."""
    order = stage.modules
    assert order is not None
    assert stage.fit is not None
    modules = modules_of(model, list(layers), order.kinds)
    found = [
        module
        for module in modules
        if module.component in stage.components and _learns(module, layers, stage.learns)
    ]
    if order.order == "backwards":
        found.reverse()
    return ModuleSchedule(model, tuple(found), layers, stage.fit.steps, order.learn_on, stage.state)


def _learns(module: Module, layers: dict[str, Learning], learns: Learnables) -> bool:
    """Not an attention that stands alone while only weights learn."""
    return any(
        modules
        for name in module.layers
        for part, modules in layers[name].learnable().items()
        if part in learns
    )
