from __future__ import annotations

import pytest
import torch

from passionsr_cli.errors import FitError
from passionsr_cli.quantization.affine import Scheme
from passionsr_cli.quantization.observers import MinMaxObserver
from passionsr_cli.quantization.quantizer import Quantizer


def test_an_observer_averages_what_it_sees() -> None:
    observer = MinMaxObserver()
    for low, high in ((-1.0, 2.0), (-3.0, 1.0)):
        observer.observe(torch.tensor([low, 0.0, high]))
    lower, upper = observer.bounds()
    assert float(lower) == pytest.approx(0.95 * -1 + 0.05 * -3)
    assert float(upper) == pytest.approx(0.95 * 2 + 0.05 * 1)


def test_channels_are_observed_apart() -> None:
    observer = MinMaxObserver(channel_axis=1)
    x = torch.randn(4, 3, 5, generator=torch.manual_seed(0))
    observer.observe(x)
    lower, upper = observer.bounds()
    assert torch.equal(lower, x.amin((0, 2)))
    assert torch.equal(upper, x.amax((0, 2)))


def test_an_observing_quantizer_changes_nothing() -> None:
    x = torch.randn(10)
    assert Quantizer(Scheme(4))(x) is x


def test_without_data_or_calibration_it_refuses() -> None:
    quantizer = Quantizer(Scheme(4))
    with pytest.raises(FitError, match="saw no data"):
        quantizer.calibrate()
    quantizer(torch.randn(10))
    with pytest.raises(FitError, match="not calibrated"):
        quantizer.grid()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("axis", [None, 0])
def test_calibrated_it_is_off_by_half_a_step_at_most(symmetric: bool, axis: int | None) -> None:
    x = torch.randn(6, 50, generator=torch.manual_seed(0)) + 0.5
    quantizer = Quantizer(Scheme(6, symmetric, axis), channels=6)
    quantizer(x)
    quantizer.calibrate()
    steps = quantizer.grid().scale.detach().reshape(-1, 1)
    # Nudging the grid onto zero may cut off half a step more at an end.
    assert ((quantizer(x) - x).abs() <= steps * 1.001).all()


def test_a_gradient_step_on_the_bounds_lowers_the_error() -> None:
    """An outlier makes min-max bounds too wide; learning narrows them."""
    x = torch.cat([torch.randn(2000, generator=torch.manual_seed(0)), torch.tensor([12.0])])
    quantizer = Quantizer(Scheme(4))
    quantizer(x)
    quantizer.calibrate()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    errors = []
    for _ in range(100):
        optimizer.zero_grad()
        error = (quantizer(x) - x).pow(2).mean()
        error.backward()
        optimizer.step()
        errors.append(float(error))
    assert errors[-1] < 0.6 * errors[0]
    assert quantizer.upper < 12


def test_a_symmetric_quantizer_learns_one_bound() -> None:
    assert [name for name, _ in Quantizer(Scheme(8, True)).named_parameters()] == ["upper"]
    names = {name for name, _ in Quantizer(Scheme(8)).named_parameters()}
    assert names == {"lower", "upper"}
