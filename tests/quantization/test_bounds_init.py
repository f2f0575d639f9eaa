from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from passionsr_cli.quantization import bounds_init
from passionsr_cli.quantization.bounds_init import start_between, start_from_sample
from passionsr_cli.quantization.observers import SampleObserver
from passionsr_cli.quantization.quantizer import Quantizer
from passionsr_cli.quantization.schemes import Scheme


def _values(signed: bool) -> Tensor:
    x = torch.randn(3, 400, generator=torch.manual_seed(0)) * torch.tensor([[1.0], [0.1], [30.0]])
    return x if signed else x.abs()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(
    ("signed", "symmetric", "levels"),
    [
        (True, False, lambda b: (2 ** (b - 1), 2 ** (b - 1) - 1)),
        (False, False, lambda b: (0, 2**b - 1)),
        # Integer kernels want both sides alike.
        (True, True, lambda b: (2 ** (b - 1) - 1, 2 ** (b - 1) - 1)),
    ],
)
def test_steps_start_where_the_paper_says(
    bits: int, signed: bool, symmetric: bool, levels: object
) -> None:
    """s = 2·mean|v| / √Q_P, in float64, of each channel."""
    x = _values(signed)
    below, above = levels(bits)  # type: ignore[operator]
    quantizer = Quantizer(Scheme(bits, symmetric, 0, offset=False), 3)
    start_between(quantizer, x, (x.amin(1), x.amax(1)), "lsq")
    grid = quantizer.grid()
    for channel, row in enumerate(x.double().numpy()):
        step = 2 * np.abs(row).mean() / math.sqrt(above)
        assert float(grid.scale[channel].detach()) == pytest.approx(step, rel=1e-5)
        wanted = np.clip(np.round(row / step), -below, above) * step
        assert quantizer(x)[channel].detach().numpy() == pytest.approx(wanted, abs=1e-4 * step)


def _best(x: np.ndarray, bits: int) -> float:
    """The least mean squared error of all grids on a fine raster of both bounds, float64."""
    levels, least = 2**bits - 1, math.inf
    for lower in np.linspace(0.02, 1, 50) * x.min():
        for upper in np.linspace(0.02, 1, 50) * x.max():
            step = (upper - lower) / levels
            zero = -round(lower / step)
            rounded = (np.clip(np.round(x / step) + zero, 0, levels) - zero) * step
            least = min(least, float(((rounded - x) ** 2).mean()))
    return least


@pytest.mark.parametrize("bits", [2, 4])
def test_the_search_finds_what_rounds_best(bits: int) -> None:
    """Values as they are behind SiLU, with an outlier."""
    x = torch.nn.functional.silu(torch.randn(4000, generator=torch.manual_seed(1)))
    x[0] = 9.0
    quantizer = Quantizer(Scheme(bits))
    error = {}
    for start in ("extremes", "mse"):
        start_between(quantizer, x, (x.amin(), x.amax()), start)  # type: ignore[arg-type]
        error[start] = float((quantizer(x) - x).square().mean())
    best = _best(x.double().numpy(), bits)
    assert error["extremes"] > 1.5 * best
    assert error["mse"] < 1.1 * best


def test_the_search_minds_each_channel_and_what_the_scheme_can() -> None:
    x = _values(signed=True)
    x[:, 0] *= 20
    quantizer = Quantizer(Scheme(4, channel_axis=0, offset=False), 3)
    extremes = (x.amin(1), x.amax(1))
    quantizer.start(*extremes)
    before = (quantizer(x) - x).square().mean(1)
    start_between(quantizer, x, extremes, "mse")
    after = (quantizer(x) - x).square().mean(1)
    assert (after < before).all()
    assert quantizer.grid().zero_point.tolist() == [8, 8, 8]


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_bounds_of_a_sample_are_no_worse_than_the_extremes_for_all_values(bits: int) -> None:
    """Values as they are behind SiLU, the few largest far out: a sample holds next to none."""
    draw = torch.Generator().manual_seed(0)
    values = torch.nn.functional.silu(torch.randn(400_000, generator=draw))
    values[::20_011] *= 4
    extremes = values.amin(), values.amax()
    observer = SampleObserver()
    observer.observe(values)
    errors = []
    for start in ("extremes", "mse"):
        quantizer = Quantizer(Scheme(bits), 0)
        start_from_sample(quantizer, observer.values(), extremes, start)  # type: ignore[arg-type]
        errors.append(float((quantizer(values) - values).square().mean()))
    assert errors[1] <= errors[0] * (0.9 if bits == 4 else 1.0)


@pytest.mark.parametrize("channels", [0, 3])
def test_shares_tried_together_are_those_tried_one_by_one(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.randn(channels or 1, 500) ** 3 + 0.3
    values = values if channels else values[0]
    found = []
    for at_once in (1, 4 * values.numel(), 2**30):
        monkeypatch.setattr(bounds_init, "VALUES_AT_ONCE", at_once)
        quantizer = Quantizer(Scheme(4, channel_axis=0 if channels else None), channels)
        extremes = (values.amin(-1), values.amax(-1))
        found.append(torch.stack(start_between(quantizer, values, extremes, "mse")))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert bool((found[0].abs() < torch.stack(extremes).abs()).any())
