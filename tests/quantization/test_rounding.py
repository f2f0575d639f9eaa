from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.quantization.affine import Grid, dequantize, grid_between, quantize
from passionsr_cli.quantization.rounding import AdaptiveRounding, DecidedRounding
from passionsr_cli.quantization.schemes import LayerFitting, LayerPlan, Rounding, Scheme, State


def _weight() -> Tensor:
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(0))


def _grid(weight: Tensor, symmetric: bool = False) -> Grid:
    lower, upper = weight.flatten(1).amin(1), weight.flatten(1).amax(1)
    # Some weights are clipped, on either side.
    return grid_between(0.8 * lower, 0.8 * upper, Scheme(3, symmetric, 0))


def _h(logit: np.ndarray) -> np.ndarray:
    """Equation 23 of AdaRound: the rectified sigmoid."""
    result: np.ndarray = np.clip(1.2 / (1 + np.exp(-logit)) - 0.1, 0, 1)
    return result


@pytest.mark.parametrize("symmetric", [False, True])
def test_soft_weights_follow_the_paper(symmetric: bool) -> None:
    weight = _weight()
    grid, rounding = _grid(weight, symmetric), AdaptiveRounding(weight.shape)
    rounding.logit.data.normal_(0, 3, generator=torch.Generator().manual_seed(1))
    scale, zero = (t.double().numpy()[:, None] for t in (grid.scale, grid.zero_point))
    up = _h(rounding.logit.detach().double().numpy())
    assert 0 in up
    assert 1 in up
    # Equation 22, with a zero point.
    q = np.floor(weight.double().numpy() / scale) + up + zero
    q = np.clip(q, grid.scheme.quant_min, grid.scheme.quant_max)
    np.testing.assert_allclose(
        rounding(weight, grid).detach().numpy(), (q - zero) * scale, atol=1e-5
    )
    # Equation 24.
    for exponent in (20.0, 2.0):
        wanted = np.mean(1 - np.abs(2 * up - 1) ** exponent)
        assert float(rounding.undecided(exponent)) == pytest.approx(float(wanted), abs=1e-6)


def test_the_start_changes_nothing() -> None:
    weight = _weight()
    grid, rounding = _grid(weight), AdaptiveRounding(weight.shape)
    rounding.start(weight, grid)
    low, high = grid.nudged_bounds()
    clipped = weight.clamp(low[:, None], high[:, None])
    torch.testing.assert_close(rounding(weight, grid).detach(), clipped, atol=1e-5, rtol=0)
    assert torch.equal(rounding.integers(weight, grid), quantize(weight, grid))


def test_what_does_not_learn_is_decided() -> None:
    weight = _weight()
    grid, rounding = _grid(weight), AdaptiveRounding(weight.shape)
    rounding.start(weight, grid)
    rounding.logit.data.normal_(generator=torch.Generator().manual_seed(1))
    integers = rounding.integers(weight, grid)
    assert not torch.equal(integers, quantize(weight, grid))
    rounding.requires_grad_(False)
    assert torch.equal(rounding(weight, grid), dequantize(integers, grid))


def test_gradients_push_towards_the_lower_error() -> None:
    weight = torch.tensor([[0.4, -0.4, 1.0, -1.0]])
    grid = grid_between(torch.tensor([-3.0]), torch.tensor([4.0]), Scheme(3, False, 0))
    rounding = AdaptiveRounding(weight.shape)
    rounding.start(weight, grid)
    # With X = (1, 1, 0, 0) the sum of the first two is to be 1.
    (rounding(weight, grid)[0, :2].sum() - 1).square().backward()
    assert rounding.logit.grad is not None
    assert bool((rounding.logit.grad[0, :2] < 0).all())
    assert not rounding.logit.grad[0, 2:].any()


@pytest.mark.parametrize("rounding", ["adaptive", "gptq"])
def test_a_frozen_layer_computes_what_it_did(rounding: Rounding) -> None:
    torch.manual_seed(0)
    plan = LayerPlan(
        Scheme(3, False, 0), Scheme(4), channel_scale=True, fitting=LayerFitting(rounding=rounding)
    )
    layer, x = LearningLayer(nn.Linear(6, 5), plan), torch.randn(20, 6)
    layer.requires_grad_(False)
    layer.state = State.OBSERVING
    layer(x)
    layer.start_transform(0.5)
    layer(x)
    layer.start_bounds()
    layer.state = State.QUANTIZING
    nearest = layer(x)
    if isinstance(layer.rounding, AdaptiveRounding):
        layer.rounding.logit.normal_()
    if isinstance(layer.rounding, DecidedRounding):
        layer.rounding.decided += 1
        layer.rounding.decided.clamp_(0, 7)
    before = layer(x)
    assert not torch.allclose(before, nearest)
    torch.testing.assert_close(layer.freeze()(x), before)


def test_with_weights_only_the_input_stays() -> None:
    torch.manual_seed(0)
    plan = LayerPlan(Scheme(2, False, 0), Scheme(2))
    layer, x = LearningLayer(nn.Conv2d(3, 4, 3, padding=1), plan), torch.randn(1, 3, 6, 6)
    layer.state = State.OBSERVING
    layer(x)
    layer.start_bounds()
    layer.state = State.WEIGHTS_ONLY
    assert layer.weight_quantizer
    weight = layer.weight_quantizer(layer.weight)
    torch.testing.assert_close(layer(x), layer.product(x, weight, layer.bias))
    layer.state = State.QUANTIZING
    assert not torch.allclose(layer(x), layer.product(x, weight, layer.bias))
