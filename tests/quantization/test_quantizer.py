from __future__ import annotations

import math

import pytest
import torch

from passionsr_cli.errors import FitError
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.quantization.observers import (
    LARGEST_SAMPLE,
    DeviationObserver,
    MinMaxObserver,
    SampleObserver,
)
from passionsr_cli.quantization.quantizer import FrozenQuantizer, Quantizer
from passionsr_cli.quantization.schemes import Scheme


def _started(x: torch.Tensor, scheme: Scheme) -> Quantizer:
    """A quantizer between the extremes of `x`, whose first axis is its channels."""
    quantizer = Quantizer(scheme, len(x))
    flat = x.reshape(len(x), -1)
    if scheme.channel_axis is None:
        quantizer.start(x.amin(), x.amax())
    else:
        quantizer.start(flat.amin(1), flat.amax(1))
    return quantizer


def test_an_observer_averages_what_it_sees() -> None:
    observer = MinMaxObserver()
    for low, high in ((-1.0, 2.0), (-3.0, 1.0)):
        observer.observe(torch.tensor([low, 0.0, high]))
        observer.end_batch()
    lower, upper = observer.bounds()
    assert float(lower) == pytest.approx(0.95 * -1 + 0.05 * -3)
    assert float(upper) == pytest.approx(0.95 * 2 + 0.05 * 1)


@pytest.mark.parametrize("axis", [None, 1])
def test_a_batch_may_come_in_pieces(axis: int | None) -> None:
    first, second = torch.randn(2, 6, 3, 5, generator=torch.manual_seed(0))
    whole, pieces = MinMaxObserver(axis), MinMaxObserver(axis)
    for batch in (first, second):
        whole.observe(batch)
        whole.end_batch()
        for piece in batch.split(2):
            pieces.observe(piece)
        pieces.end_batch()
    for one, other in zip(whole.bounds(), pieces.bounds(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("axis", [1, -1])
def test_channels_are_observed_apart(axis: int) -> None:
    observer = MinMaxObserver(channel_axis=axis)
    x = torch.randn(4, 3, 5, generator=torch.manual_seed(0))
    observer.observe(x)
    lower, upper = observer.bounds()
    others = (0, 2) if axis == 1 else (0, 1)
    assert torch.equal(lower, x.amin(others))
    assert torch.equal(upper, x.amax(others))


def test_a_sample_is_spread_over_all_there_is() -> None:
    observer = SampleObserver()
    for number in range(300):
        observer.observe(torch.arange(64.0 * 64).reshape(1, 64, 64) % 64 + 100 * number)
        observer.end_batch()
    values = observer.values()
    assert LARGEST_SAMPLE // 3 <= len(values) <= LARGEST_SAMPLE
    # Of every column and of every image.
    assert set((values % 100).tolist()) == set(range(64))
    shares = torch.bincount((values // 100).long(), minlength=300)
    assert shares.min() >= shares.max() - 2
    other = SampleObserver()
    other.load_state_dict(observer.state_dict())
    assert torch.equal(other.values(), values)


def test_deviations_are_of_all_that_was_seen() -> None:
    x = torch.randn(8, 20, 3, generator=torch.manual_seed(0)) * torch.tensor([0.1, 1, 50]) + 7
    observer = DeviationObserver()
    for piece in x.split(3):
        observer.observe(piece)
        observer.end_batch()
    assert observer.deviation().numpy() == pytest.approx(
        x.double().flatten(0, 1).std(0, unbiased=False).numpy(), rel=1e-5
    )


def test_without_data_or_bounds_it_refuses() -> None:
    with pytest.raises(FitError, match="saw no data"):
        MinMaxObserver().bounds()
    with pytest.raises(FitError, match="saw no data"):
        SampleObserver().values()
    with pytest.raises(FitError, match="saw no data"):
        DeviationObserver().deviation()
    with pytest.raises(FitError, match="no bounds yet"):
        Quantizer(Scheme(4))(torch.randn(10))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("axis", [None, 0])
def test_it_is_off_by_half_a_step_at_most(symmetric: bool, axis: int | None) -> None:
    x = torch.randn(6, 50, generator=torch.manual_seed(0)) + 0.5
    quantizer = _started(x, Scheme(6, symmetric, axis))
    steps = quantizer.grid().scale.detach().reshape(-1, 1)
    # Nudging the grid onto zero may cut off half a step more at an end.
    assert ((quantizer(x) - x).abs() <= steps * 1.001).all()


def test_bounds_come_back_as_they_were_given() -> None:
    quantizer = Quantizer(Scheme(4))
    quantizer.start(torch.tensor(-0.3), torch.tensor(7.0))
    lower, upper = quantizer.bounds()
    assert float(lower) == pytest.approx(-0.3)
    assert float(upper) == pytest.approx(7.0)


def test_one_learning_rate_moves_large_and_small_bounds_alike() -> None:
    moved = []
    for size in (0.01, 100.0):
        quantizer = Quantizer(Scheme(4))
        quantizer.start(torch.tensor(-size), torch.tensor(size))
        optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
        x = torch.linspace(-1.4, 1.4, 101) * size
        (quantizer(x) - x).square().mean().div(size**2).backward()
        optimizer.step()
        moved.append(float(quantizer.bounds()[1]) / size)
    assert moved[0] == pytest.approx(moved[1], rel=1e-3)
    assert moved[0] > 1.05


@pytest.mark.parametrize("offset", [True, False])
def test_a_gradient_step_on_the_bounds_lowers_the_error(offset: bool) -> None:
    """An outlier makes min-max bounds too wide; learning narrows them."""
    x = torch.cat([torch.randn(2000, generator=torch.manual_seed(0)), torch.tensor([12.0])])
    quantizer = _started(x, Scheme(4, offset=offset))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.005)
    errors = []
    for _ in range(100):
        optimizer.zero_grad()
        error = (quantizer(x) - x).pow(2).mean()
        error.backward()
        optimizer.step()
        errors.append(float(error))
    assert errors[-1] < 0.6 * errors[0]
    assert float(quantizer.bounds()[1]) < 12


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bound_that_starts_at_zero_learns(sign: int) -> None:
    """After data of one sign comes data of both; pushed beyond zero, the bound comes back."""
    x = sign * torch.rand(500, generator=torch.manual_seed(0))
    quantizer = Quantizer(Scheme(4))
    quantizer.start(x.amin().clamp_max(0), x.amax().clamp_min(0))
    name = "lower" if sign == 1 else "upper"
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    getattr(quantizer, name).data += sign * 0.01
    both = torch.cat([x, -0.5 * x])
    for _ in range(60):
        optimizer.zero_grad()
        (quantizer(both) - both).square().mean().backward()
        optimizer.step()
    learned = float(quantizer.bounds()[0 if sign == 1 else 1].detach())
    assert -sign * learned > 0.25


def test_a_symmetric_quantizer_learns_one_bound() -> None:
    symmetric = Quantizer(Scheme(8, True))
    assert [name for name, _ in symmetric.named_parameters()] == ["upper"]
    symmetric.start(torch.tensor(-2.0), torch.tensor(1.0))
    symmetric.grid().scale.backward()
    # As a multiple of the range it started from.
    assert float(symmetric.upper.grad) == float(torch.tensor(2.0) / 127)  # type: ignore[arg-type]
    names = {name for name, _ in Quantizer(Scheme(8)).named_parameters()}
    assert names == {"lower", "upper"}


@pytest.mark.parametrize("signed", [True, False])
def test_without_offset_the_zero_point_stays(signed: bool) -> None:
    x = torch.randn(200, generator=torch.manual_seed(0)) + 1
    x = x if signed else x.abs()
    quantizer = _started(x[None].repeat(2, 1), Scheme(4, offset=False))
    assert [name for name, _ in quantizer.named_parameters()] == ["upper"]
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    before = quantizer.grid().scale.item()
    for _ in range(5):
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
    assert quantizer.grid().scale.item() != before
    assert quantizer.grid().zero_point.item() == (8 if signed else 0)
    assert float(quantizer.bounds()[0]) <= (float(x.min()) if signed else 0)


@pytest.mark.parametrize("axis", [None, 0])
def test_the_gradient_of_a_step_is_the_papers(axis: int | None) -> None:
    """LSQ's equation 3 times g = 1/√(N·Q_P), in float64; a value counts as clipped once it is
    rounded beyond the last integer, as in torch's kernels."""
    x = torch.randn(2, 40, generator=torch.manual_seed(0)) * 3
    weights = torch.randn(2, 40, generator=torch.manual_seed(1))
    quantizer = Quantizer(Scheme(3, channel_axis=axis, offset=False), 2, scaled_gradient=True)
    bound = torch.tensor(1.5) if axis is None else torch.tensor([1.5, 4.0])
    quantizer.start(-bound, bound)
    (quantizer(x) * weights).sum().backward()
    assert quantizer.upper is not None
    assert quantizer.upper.grad is not None
    steps = quantizer.grid().scale.detach().double().reshape(-1, 1)
    ratio = x.double() / steps
    inside = ratio.round() - ratio
    of_step = torch.where(ratio < -4.5, -4.0, torch.where(ratio > 3.5, 3.0, inside))
    total = (of_step * weights).sum(1 if axis == 0 else (0, 1))
    count = 40 if axis == 0 else 80
    # Steps are upper / 3, and learned as multiples of where they started.
    wanted = total / math.sqrt(count * 3) * quantizer.unit / 3
    assert quantizer.upper.grad.numpy() == pytest.approx(wanted.float().numpy(), rel=1e-4)


def test_a_fixed_grid_is_kept_to_the_last_bit() -> None:
    grid = Grid(Scheme(5), torch.tensor(0.1234567), torch.tensor(7.0))
    quantizer = FrozenQuantizer(grid)
    assert torch.equal(quantizer.grid().scale, grid.scale)
    lower, upper = quantizer(torch.tensor([-9.0, 9.0]))
    assert float(lower) == pytest.approx(-7 * 0.1234567)
    assert float(upper) == pytest.approx(24 * 0.1234567)
    assert not list(quantizer.parameters())


def test_its_state_says_that_it_was_started() -> None:
    one, two = Quantizer(Scheme(4)), Quantizer(Scheme(4))
    one.start(torch.tensor(-1.0), torch.tensor(2.0))
    two.load_state_dict(one.state_dict())
    x = torch.randn(20)
    assert torch.equal(two(x), one(x))
