from __future__ import annotations

import pytest
import torch
from torch import nn

from passionsr_cli.calibration.fit import optimizer_of, parameter_groups
from passionsr_cli.config import FitSettings
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.methods.stages import LBQ, LET, Learnables
from passionsr_cli.quantization.schemes import LayerFitting, LayerPlan, Learnable, Scheme


@pytest.fixture
def layer() -> LearningLayer:
    plan = LayerPlan(Scheme(4, False, 0), Scheme(8), channel_scale=True)
    return LearningLayer(nn.Conv2d(3, 2, 3, padding=1), plan)


def _factors(layer: LearningLayer, learns: Learnables) -> dict[int, float]:
    """The learning rate factor of each parameter that learns."""
    groups = parameter_groups({"layer": layer}, learns, {})
    return {id(p): group["learning_rate_factor"] for group in groups for p in group["params"]}


def test_parameters_learn_in_steps_of_their_grid(layer: LearningLayer) -> None:
    assert layer.weight_quantizer
    assert layer.input_quantizer
    assert layer.transform
    factors = _factors(layer, LET | LBQ)
    assert {factors[id(p)] for p in layer.weight_quantizer.parameters()} == {1 / 16}
    assert {factors[id(p)] for p in layer.input_quantizer.parameters()} == {1 / 256}
    # A channel scale moves both operands, so it goes with the finer grid.
    assert {factors[id(p)] for p in layer.transform.parameters()} == {1 / 256}
    assert id(layer.weight) not in factors


def test_what_is_merged_learns_in_steps_of_the_weight() -> None:
    plan = LayerPlan(Scheme(4, False, 0), Scheme(8), merged_rank=2)
    layer = LearningLayer(nn.Linear(4, 6), plan)
    assert set(_factors(layer, frozenset({Learnable.MERGED})).values()) == {1 / 16}


def test_one_step_of_the_rate_is_one_step_of_the_grid(layer: LearningLayer) -> None:
    quantizer = layer.input_quantizer
    assert quantizer
    quantizer.start(torch.tensor(-1.0), torch.tensor(4.0))
    before, scale = quantizer.bounds()[1].item(), quantizer.grid().scale.item()
    group = next(
        g for g in parameter_groups({"l": layer}, LBQ, {}) if quantizer.upper in set(g["params"])
    )
    optimizer = torch.optim.Adam(group["params"], lr=group["learning_rate_factor"])
    quantizer.bounds()[1].backward()
    optimizer.step()
    assert before - quantizer.bounds()[1].item() == pytest.approx(scale, rel=0.01)


def test_stages_learn_what_they_say(layer: LearningLayer) -> None:
    assert layer.transform
    own = {id(p) for p in layer.transform.parameters()}
    assert set(_factors(layer, LET)) == own
    assert not own & set(_factors(layer, LBQ))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_gradients_scale_reaches_sgd_alone(optimizer: str) -> None:
    """LSQ's factor on the gradient of a step: Adam divides it out again."""
    moved = []
    for scaled in (False, True):
        plan = LayerPlan(None, Scheme(4), fitting=LayerFitting(scaled_gradient=scaled))
        quantizer = LearningLayer(nn.Linear(50, 2), plan).input_quantizer
        assert quantizer is not None
        assert quantizer.upper is not None
        quantizer.start(torch.tensor(-1.0), torch.tensor(1.0))
        before, largest = quantizer.upper.item(), 15 - quantizer.grid().zero_point.item()
        fit = FitSettings(steps=1, learning_rate=0.01, optimizer=optimizer)  # type: ignore[arg-type]
        stepper = optimizer_of([{"params": list(quantizer.parameters())}], fit)
        x = torch.randn(4, 50, generator=torch.manual_seed(0))
        (quantizer(x) - x).square().sum().backward()
        stepper.step()
        moved.append(quantizer.upper.item() - before)
    # So many values of each image share a step, and so many steps are above zero.
    wanted = 1.0 if optimizer == "adam" else (50 * largest) ** -0.5
    assert moved[1] / moved[0] == pytest.approx(wanted, rel=0.02)
