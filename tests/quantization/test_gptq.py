from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.layers.rows import decide_rounding, input_rows
from passionsr_cli.quantization import gptq as module
from passionsr_cli.quantization.affine import Grid, dequantize, grid_between, quantize
from passionsr_cli.quantization.gptq import gptq
from passionsr_cli.quantization.schemes import LayerFitting, LayerPlan, Scheme, State


def _weight(columns: int) -> tuple[Tensor, Grid]:
    weight = torch.randn(6, columns, generator=torch.Generator().manual_seed(0))
    return weight, grid_between(weight.amin(1), weight.amax(1), Scheme(3, False, 0))


def _correlated(columns: int, count: int = 500) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    mixed = torch.randn(columns, columns, generator=generator) / columns**0.5
    return torch.randn(count, columns, generator=generator) @ (mixed + 0.3 * torch.eye(columns))


def _error(weight: Tensor, integers: Tensor, grid: Grid, rows: Tensor) -> float:
    return float((rows @ (weight - dequantize(integers, grid)).t()).square().sum())


def _one_by_one(weight: np.ndarray, grid: Grid, rows: np.ndarray) -> np.ndarray:
    """Optimal brain quantization in a fixed order, as the paper's equations 2 and 3 have it:
    the rest of the weights moves to where it is best, whose Hessian loses one column a time."""
    moments = rows.T @ rows
    order = np.argsort(-np.diag(moments), kind="stable")
    moments += module.DAMPING * np.diag(moments).mean() * np.eye(len(moments))
    scale, zero = (t.double().numpy() for t in (grid.scale, grid.zero_point))
    left, integers = weight.copy(), np.zeros(weight.shape, dtype=np.int16)
    rest = list(order)
    while rest:
        inverse = np.linalg.inv(moments[np.ix_(rest, rest)])
        column = rest[0]
        q = np.clip(np.round(left[:, column] / scale) + zero, 0, grid.scheme.quant_max)
        integers[:, column] = q
        error = left[:, column] - (q - zero) * scale
        left[:, rest] -= np.outer(error / inverse[0, 0], inverse[0])
        rest = rest[1:]
    return integers


def test_it_is_optimal_brain_quantization_in_a_fixed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks change when errors are made up for, not how.
    monkeypatch.setattr(module, "BLOCK", 5)
    weight, grid = _weight(17)
    rows = _correlated(17)
    wanted = _one_by_one(weight.double().numpy(), grid, rows.double().numpy())
    found = gptq(weight, grid, rows).numpy()
    assert (found == wanted).mean() > 0.98
    assert (quantize(weight, grid).numpy() == wanted).mean() < 0.9


def test_correlated_inputs_are_multiplied_with_less_error() -> None:
    weight, grid = _weight(200)
    rows = _correlated(200)
    nearest = _error(weight, quantize(weight, grid), grid, rows)
    assert _error(weight, gptq(weight, grid, rows), grid, rows) < 0.6 * nearest
    # Other inputs of the same kind too.
    others = _correlated(200, 900)[500:]
    nearest = _error(weight, quantize(weight, grid), grid, others)
    assert _error(weight, gptq(weight, grid, rows), grid, others) < 0.8 * nearest


def test_uncorrelated_inputs_of_one_size_leave_the_nearest() -> None:
    weight, grid = _weight(40)
    assert torch.equal(gptq(weight, grid, torch.eye(40)), quantize(weight, grid))


def test_inputs_that_are_always_zero_are_no_obstacle() -> None:
    weight, grid = _weight(10)
    rows = _correlated(10)
    rows[:, 3] = 0
    found = gptq(weight, grid, rows)
    assert torch.equal(found[:, 3], quantize(weight, grid)[:, 3])


def test_wide_layers_are_rounded_in_groups_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, grid = _weight(24)
    rows = _correlated(24)
    parts = [gptq(weight[:, part], grid, rows[:, part]) for part in (slice(0, 16), slice(16, 24))]
    monkeypatch.setattr(module, "MOST_COLUMNS", 16)
    assert torch.equal(gptq(weight, grid, rows), torch.cat(parts, 1))


@pytest.mark.parametrize("shifts", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": (0, 2), "stride": 2},
        {"kernel_size": 1},
    ],
)
def test_rows_times_the_weight_are_the_convolution(options: dict[str, int], shifts: bool) -> None:
    torch.manual_seed(0)
    plan = LayerPlan(None, None, channel_scale=True, channel_shift=shifts)
    layer = LearningLayer(nn.Conv2d(3, 4, **options), plan)  # type: ignore[arg-type]
    assert layer.transform
    layer.transform.log_scale.data.normal_()
    if layer.transform.shift_ratio is not None:
        layer.transform.shift_ratio.data.normal_()
    x = torch.randn(2, 3, 8, 6)
    layer.state = State.QUANTIZING
    frozen = layer.freeze()
    rows = input_rows(layer, x, 10**6)
    found = rows @ frozen.weight.flatten(1).t() + frozen.bias
    torch.testing.assert_close(found, layer(x).permute(0, 2, 3, 1).flatten(0, 2))
    assert 6 <= len(input_rows(layer, x, 10)) <= 16


def test_a_layer_is_rounded_for_its_own_inputs() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 5, 3, padding=1)
    layer = LearningLayer(
        convolution, LayerPlan(Scheme(3, False, 0), None, fitting=LayerFitting(rounding="gptq"))
    )
    layer.requires_grad_(False)
    # Neighbours are alike, as in photographs.
    x = nn.functional.avg_pool2d(torch.randn(1, 4, 40, 40), 5, stride=1)
    layer.state = State.OBSERVING
    layer(x)
    layer.start_bounds()
    layer.state = State.QUANTIZING
    nearest = float((layer(x) - convolution(x)).square().mean())
    decide_rounding(layer, input_rows(layer, x, 5000))
    assert float((layer(x) - convolution(x)).square().mean()) < 0.7 * nearest
