from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.quantization.affine import quantize
from passionsr_cli.quantization.schemes import LayerFitting, LayerPlan, Scheme, State

CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": (0, 2), "stride": 2},
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "bias": False},
]
LINEAR = [{}, {"bias": False}]


def _pair(kind: str, options: dict[str, object], plan: LayerPlan):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    if kind == "convolution":
        layer: nn.Module = nn.Conv2d(6, 5, **options)  # type: ignore[arg-type]
        return layer, LearningLayer(layer, plan), torch.randn(2, 6, 9, 7) * 3 + 1  # type: ignore[arg-type]
    layer = nn.Linear(6, 5, **options)  # type: ignore[arg-type]
    return layer, LearningLayer(layer, plan), torch.randn(2, 11, 6) * 3 + 1  # type: ignore[arg-type]


CASES = [("convolution", o) for o in CONVOLUTIONS] + [("linear", o) for o in LINEAR]


def _disturb(layer: LearningLayer) -> None:
    """Scales and shifts far from the identity."""
    generator = torch.Generator().manual_seed(1)
    assert layer.transform is not None
    layer.transform.log_scale.data.normal_(generator=generator)
    if layer.transform.shift_ratio is not None:
        layer.transform.shift_ratio.data.normal_(generator=generator)
    if layer.split is not None:
        layer.split.log_scale.data.fill_(0.7)
        if layer.split.shift is not None:
            layer.split.shift.data.fill_(-0.4)


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("split", [None, 2])
@pytest.mark.parametrize("shifts", [False, True])
def test_without_rounding_the_transformation_changes_nothing(
    kind: str, options: dict[str, object], split: int | None, shifts: bool
) -> None:
    """X̃ W̃ + b̃ = X W + b, at the borders too."""
    plan = LayerPlan(None, None, channel_scale=True, channel_shift=shifts, split=split)
    layer, quantized, x = _pair(kind, options, plan)
    _disturb(quantized)
    expected = layer(x)
    quantized.state = State.QUANTIZING
    for found in (quantized(x), quantized.freeze()(x)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def _reference(x: Tensor, quantized: LearningLayer, layer: nn.Conv2d, bits: int) -> Tensor:
    """The layer on integers in float64, written from the formulas alone."""
    x, weight = x.double(), layer.weight.double()
    assert quantized.transform is not None
    scale = quantized.transform.log_scale.detach().double().exp()
    ratio = quantized.transform.shift_ratio
    shift = torch.zeros(6, dtype=torch.float64)
    if ratio is not None:
        shift = (ratio.detach() * quantized.transform.shift_unit).double()
    padded = F.pad(x, (1, 1, 1, 1))
    moved = (padded - shift[:, None, None]) / scale[:, None, None]
    lower, upper = min(float(moved.min()), 0.0), max(float(moved.max()), 0.0)
    step = (upper - lower) / (2**bits - 1)
    zero = -round(lower / step)
    codes = (torch.round(moved / step) + zero).clamp(0, 2**bits - 1)
    heavier = weight * scale[None, :, None, None]
    largest = heavier.flatten(1).abs().amax(1)
    weight_step = (largest / (2 ** (bits - 1) - 1))[:, None, None, None]
    weight_codes = torch.round(heavier / weight_step)
    assert layer.bias is not None
    bias = layer.bias.double() + torch.einsum("ocij,c->o", weight, shift)
    integers = F.conv2d(codes - zero, weight_codes, stride=layer.stride)
    return integers * step * weight_step.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)


@pytest.mark.parametrize("bits", [8, 6, 4, 2])
@pytest.mark.parametrize("shifts", [False, True])
def test_a_convolution_is_the_integer_product_of_the_paper(bits: int, shifts: bool) -> None:
    plan = LayerPlan(Scheme(bits, True, 0), Scheme(bits), True, shifts)
    layer, quantized, x = _pair("convolution", {"kernel_size": 3, "padding": 1}, plan)
    _disturb(quantized)
    quantized.state = State.OBSERVING
    torch.testing.assert_close(quantized(x), layer(x))
    quantized.start_bounds()
    quantized.state = State.QUANTIZING
    expected = _reference(x, quantized, layer, bits)
    # A value within rounding of a code's border may fall to either side.
    close = (quantized(x).double() - expected).abs() < 1e-4 * expected.abs().max()
    assert close.double().mean() > 0.999
    if not shifts:
        # A border of zeros stays zero, without being observed.
        assert torch.equal(quantized.tensor_observer.bounds()[0] < 0, torch.tensor(True))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("axis", [0, None])
def test_freezing_keeps_every_value(bits: int, axis: int | None) -> None:
    plan = LayerPlan(Scheme(bits, bits == 8, axis), Scheme(bits), True, True, split=2)
    _, quantized, x = _pair("linear", {}, plan)
    quantized.state = State.OBSERVING
    quantized(x)
    quantized.start_transform(0.5)
    quantized.start_bounds()
    quantized.state = State.QUANTIZING
    before = quantized(x)
    frozen = quantized.freeze()
    torch.testing.assert_close(frozen(x), before, rtol=0, atol=1e-6)
    assert frozen.stored_weight().dtype == torch.int16
    # What a checkpoint holds of it is enough, to the last bit.
    again = FrozenLayer(
        frozen.product,
        frozen.stored_weight(),
        frozen.weight_grid,
        frozen.bias,
        frozen.channel_scale,
        frozen.channel_shift,
        frozen.input_grid,
    )
    assert torch.equal(again(x), frozen(x))
    # Nor has it to do with what goes on learning.
    _disturb(quantized)
    assert torch.equal(again(x), frozen(x))


def test_parts_of_a_concatenation_get_steps_of_their_own() -> None:
    """One grid over both parts would give the small one a few codes only."""
    x = torch.randn(4, 50, 6, generator=torch.manual_seed(0))
    x[..., 3:] *= 40
    errors = []
    for split in (None, 3):
        plan = LayerPlan(None, Scheme(4), channel_shift=False, split=split)
        torch.manual_seed(0)
        layer = nn.Linear(6, 5)
        quantized = LearningLayer(layer, plan)
        quantized.state = State.OBSERVING
        quantized(x)
        quantized.start_bounds()
        quantized.state = State.QUANTIZING
        only_small = x.clone()
        only_small[..., 3:] = 0
        errors.append(float((quantized(only_small) - layer(only_small)).square().mean().detach()))
    assert errors[1] < errors[0] / 20


@pytest.mark.parametrize("shifts", [False, True])
@pytest.mark.parametrize("split", [None, 2])
@pytest.mark.parametrize("symmetric", [False, True])
def test_following_bounds_are_those_of_the_transformed_input(
    symmetric: bool, split: int | None, shifts: bool
) -> None:
    """In float32, the extremes of X̃ from the channels' extremes are those of X̃ itself."""
    plan = LayerPlan(Scheme(6, symmetric, 0), Scheme(6, symmetric), True, shifts, split)
    _, quantized, x = _pair("linear", {}, plan)
    # Mostly below zero, which a symmetric grid must reach, too.
    x = -4 - x
    quantized.state = State.OBSERVING
    quantized(x)
    _disturb(quantized)
    quantized.state = State.FOLLOWING
    followed = quantized(x)
    assert quantized.clipped_share(x) == 0
    quantized.tensor_observer.forget()
    quantized.state = State.OBSERVING
    quantized(x)
    quantized.start_bounds()
    quantized.state = State.QUANTIZING
    torch.testing.assert_close(followed, quantized(x), rtol=1e-4, atol=1e-4)


def test_learning_the_scale_lowers_the_error_of_an_uneven_input() -> None:
    x = torch.randn(64, 6, generator=torch.manual_seed(0)) * torch.logspace(-1.5, 1.5, 6)
    plan = LayerPlan(Scheme(4, False, 0), Scheme(4), True, False)
    layer, quantized, _ = _pair("linear", {}, plan)
    quantized.state = State.OBSERVING
    quantized(x)
    quantized.state = State.FOLLOWING
    assert quantized.transform is not None
    optimizer = torch.optim.Adam(quantized.transform.parameters(), lr=0.05)
    errors = []
    for _ in range(80):
        optimizer.zero_grad()
        error = (quantized(x) - layer(x)).square().mean()
        error.backward()
        optimizer.step()
        errors.append(float(error))
    assert min(errors[-10:]) < 0.5 * errors[0]


def test_the_share_that_is_clipped() -> None:
    plan = LayerPlan(None, Scheme(8))
    _, quantized, _ = _pair("linear", {}, plan)
    assert quantized.input_quantizer is not None
    quantized.input_quantizer.start(torch.tensor(-1.0), torch.tensor(1.0))
    quantized.state = State.QUANTIZING
    assert quantized.clipped_share(torch.linspace(-2, 2, 6 * 400).reshape(400, 6)) == pytest.approx(
        0.5, abs=0.01
    )


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_without_rounding_branches_change_nothing(kind: str, options: dict[str, object]) -> None:
    """(W − L₁L₂) X + L₁(L₂ X) = W X but for bfloat16, and F₁F₂ at its start is nothing."""
    plan = LayerPlan(None, None, channel_scale=True, channel_shift=True, rank=3, merged_rank=2)
    layer, quantized, x = _pair(kind, options, plan)
    _disturb(quantized)
    quantized.start_branch()
    expected = layer(x)
    quantized.state = State.QUANTIZING
    assert quantized.branch is not None
    # A branch that matters, or this would prove nothing.
    part = quantized.product.branch(x, *_branch(quantized))
    assert part.float().abs().mean() > 0.2 * expected.abs().mean()
    for found in (quantized(x), quantized.freeze()(x)):
        torch.testing.assert_close(
            found, expected, rtol=0, atol=2**-6 * float(expected.abs().max())
        )


def test_what_is_rounded_makes_up_for_a_branch_in_bfloat16() -> None:
    """W = (W − L₁L₂) + L₁L₂ with the factors as they run."""
    torch.manual_seed(0)
    layer = nn.Linear(40, 30)
    quantized = LearningLayer(layer, LayerPlan(None, None, rank=4))
    quantized.start_branch()
    down, up = (factor.double() for factor in _branch(quantized))
    whole = quantized.freeze().stored_weight().double() + up @ down
    torch.testing.assert_close(whole, layer.weight.detach().double(), rtol=0, atol=1e-6)


def _branch(layer: LearningLayer) -> tuple[Tensor, Tensor]:
    factors = layer.branch_factors()
    assert factors is not None
    return factors


def test_a_branch_takes_what_is_large_off_the_integers() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(32, 24, bias=False)
    outer = torch.randn(24, 1) * torch.randn(1, 32)
    layer.weight.data = 0.05 * torch.randn(24, 32) + outer
    x = torch.randn(64, 32)
    errors = []
    for rank in (0, 1):
        quantized = LearningLayer(layer, LayerPlan(Scheme(4, False, 0), Scheme(8), rank=rank))
        quantized.start_branch()
        quantized.state = State.OBSERVING
        quantized(x)
        quantized.start_bounds()
        errors.append(float((quantized.freeze()(x) - layer(x)).square().mean()))
    assert errors[1] < 0.05 * errors[0]


def test_merged_matrices_are_in_the_frozen_weight() -> None:
    """s ⊙ (W + F₁F₂) on its grid, from plain formulas."""
    torch.manual_seed(0)
    layer = nn.Linear(12, 10, bias=False)
    plan = LayerPlan(Scheme(4, True, 0), None, channel_scale=True, merged_rank=2)
    quantized = LearningLayer(layer, plan)
    _disturb(quantized)
    quantized.state = State.OBSERVING
    quantized(torch.randn(3, 12))
    quantized.start_bounds()
    assert quantized.merged is not None
    quantized.merged.up.data.normal_()
    down, up = (factor.detach().double() for factor in quantized.merged.factors())
    assert quantized.transform is not None
    scale = quantized.transform.log_scale.detach().double().exp()
    moved = (layer.weight.detach().double() + up @ down) * scale
    step = (layer.weight.detach().double() * scale).abs().amax(1, keepdim=True) / 7
    expected = (moved / step).round().clamp(-7, 7)
    found = quantized.freeze().stored_weight().double()
    # A value within rounding of a code's border may fall to either side.
    assert (found == expected).double().mean() > 0.99


@torch.no_grad()
def test_parts_of_a_concatenation_start_where_each_rounds_best() -> None:
    """An outlier in the second part widens neither part's steps."""
    errors = {}
    for start in ("extremes", "mse"):
        plan = LayerPlan(Scheme(8, True, 0), Scheme(4), split=2, fitting=LayerFitting(start))  # type: ignore[arg-type]
        _, quantized, x = _pair("convolution", {"kernel_size": 1}, plan)
        x[:, 2:] *= 20
        x[0, 4, 0, 0] = 900.0
        quantized.state = State.OBSERVING
        quantized(x)
        quantized.start_bounds()
        quantized.state = State.QUANTIZING
        moved, rounded = quantized.rounded_input(x)
        scale = quantized.effective_transform()[0]
        error = ((rounded - moved) * scale[:, None, None]).square()
        errors[start] = [float(error[:, part].mean()) for part in (slice(0, 2), slice(2, 6))]
    assert errors["mse"][0] <= errors["extremes"][0] * 1.01
    assert errors["mse"][1] < 0.7 * errors["extremes"][1]


@pytest.mark.parametrize(("kind", "options"), [CASES[0], CASES[-1]])
@pytest.mark.parametrize("start", ["zero", "residual"])
@torch.no_grad()
def test_a_merged_branch_leaves_nothing_behind(
    kind: str, options: dict[str, object], start: str
) -> None:
    """After freezing the integers are those of W + F₁F₂, in float64, and the result is the same."""
    plan = LayerPlan(
        Scheme(4, False, 0), Scheme(8), merged_rank=2, fitting=LayerFitting(merged_start=start)
    )  # type: ignore[arg-type]
    layer, quantized, x = _pair(kind, options, plan)
    quantized.state = State.OBSERVING
    quantized(x)
    quantized.start_bounds()
    quantized.merged.up.add_(torch.randn_like(quantized.merged.up))
    quantized.state = State.QUANTIZING
    down, up = (factor.double() for factor in quantized.merged.factors())
    whole = layer.weight.double() + torch.einsum("or,rc...->oc...", up, down)
    before = quantized(x)
    frozen = quantized.freeze()
    assert frozen.branch is None
    grid = frozen.weight_grid
    along = (-1, *[1] * (whole.dim() - 1))
    scale, zero = grid.scale.double().reshape(along), grid.zero_point.reshape(along)
    codes = ((whole / scale).round() + zero).clamp(0, 15)
    assert (codes == frozen.stored_weight()).double().mean() > 0.98
    assert not torch.equal(quantize(layer.weight, grid), frozen.stored_weight())
    torch.testing.assert_close(frozen(x), before)
