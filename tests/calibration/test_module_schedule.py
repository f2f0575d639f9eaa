from __future__ import annotations

import pytest

from passionsr_cli.allocation.layer_plans import quantize_model
from passionsr_cli.calibration.module_schedule import ModuleSchedule, schedule_modules
from passionsr_cli.config import CalibrationSettings, FitSettings
from passionsr_cli.layers.convert import Learning, learning_layers
from passionsr_cli.methods.stages import PLAIN, ModuleOrder, Stage
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import State

STEPS = 3


def _stage(order: ModuleOrder, weights_only: bool = False) -> Stage:
    fit = FitSettings(steps=STEPS, learning_rate=1)
    return Stage("some", ("decoder",), fit=fit, modules=order, weights_only=weights_only)


def _turns(model: OneStepModel, stage: Stage) -> ModuleSchedule:
    quantize_model(model, CalibrationSettings(float_layers=()), PLAIN)
    return schedule_modules(model, learning_layers(model), stage)


def _learning(layers: dict[str, Learning]) -> set[str]:
    return {
        name
        for name, layer in layers.items()
        if any(parameter.requires_grad for parameter in layer.parameters())
    }


def _members(turns: ModuleSchedule, modules: slice) -> set[str]:
    return {layer for module in turns.modules[modules] for layer in module.layers}


def _everything_learns(turns: ModuleSchedule) -> None:
    for layer in turns.layers.values():
        layer.requires_grad_(True)


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_modules_have_their_turns_in_order(tiny_model: OneStepModel, order: str) -> None:
    turns = _turns(tiny_model, _stage(ModuleOrder(order)))  # type: ignore[arg-type]
    names = [module.name for module in turns.modules]
    ends = "vae.post_quant_conv", "vae.decoder.conv_out"
    assert (names[0], names[-1]) == (ends if order == "forwards" else ends[::-1])
    assert {module.component for module in turns.modules} == {"decoder"}
    assert turns.steps == STEPS * len(names)
    visited = [turns.enter(step) for step in range(turns.steps)]
    assert visited == [tiny_model.get_submodule(name) for name in names for _ in range(STEPS)]
    # After the last step everything is as in the last turn.
    assert turns.enter(turns.steps) is visited[-1]


@pytest.mark.parametrize("learn_on", [False, True])
def test_those_before_are_quantized_and_those_after_are_not(
    tiny_model: OneStepModel, learn_on: bool
) -> None:
    turns = _turns(tiny_model, _stage(ModuleOrder("backwards", learn_on=learn_on)))
    _everything_learns(turns)
    turns.enter(2 * STEPS + 1)
    members = _members(turns, slice(None))
    quantizing = {n for n in members if turns.layers[n].state is State.QUANTIZING}
    assert quantizing == _members(turns, slice(3))
    assert {n for n in members if turns.layers[n].state is State.FLOAT} == members - quantizing
    wanted = _members(turns, slice(3)) if learn_on else _members(turns, slice(2, 3))
    assert _learning({name: turns.layers[name] for name in members}) == wanted


def test_weights_alone_can_have_their_turn(tiny_model: OneStepModel) -> None:
    turns = _turns(tiny_model, _stage(ModuleOrder("forwards"), weights_only=True))
    turns.enter(0)
    states = {turns.layers[name].state for name in _members(turns, slice(1))}
    assert states == {State.WEIGHTS_ONLY}


def test_layers_can_have_turns_of_their_own(tiny_model: OneStepModel) -> None:
    turns = _turns(tiny_model, _stage(ModuleOrder("forwards", kinds=())))
    assert all(len(module.layers) == 1 for module in turns.modules)
    blocks = schedule_modules(tiny_model, turns.layers, _stage(ModuleOrder("forwards")))
    assert len(turns.modules) > len(blocks.modules)


def test_learning_rates_start_anew_with_each_turn(tiny_model: OneStepModel) -> None:
    turns = _turns(tiny_model, _stage(ModuleOrder("forwards")))
    rate = turns.rate(lambda step: 1.0 / (1 + step))
    assert [rate(step) for step in range(4)] == pytest.approx([1, 1 / 2, 1 / 3, 1])
