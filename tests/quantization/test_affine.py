"""Against a plain float64 reference, over bits, symmetry and granularity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from passionsr_cli.errors import ConfigError
from passionsr_cli.quantization.affine import dequantize, fake_quantize, grid_between, quantize
from passionsr_cli.quantization.schemes import Scheme

SCHEMES = [
    Scheme(bits, symmetric, axis)
    for bits in (2, 3, 4, 6, 8)
    for symmetric in (False, True)
    for axis in (None, 0)
]


def _case(scheme: Scheme) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(scheme.num_bits)
    x = torch.randn(6, 5, 3, 3)
    shape = () if scheme.channel_axis is None else (6,)
    return x, -torch.rand(shape) - 0.1, torch.rand(shape) + 0.3


def _reference(x: np.ndarray, lower: float, upper: float, scheme: Scheme) -> np.ndarray:
    """The definition for one tensor or channel, in float64, from float32 scales."""
    levels = 2**scheme.num_bits - 1
    if scheme.symmetric:
        largest = (levels - 1) // 2
        reach = max(-np.float32(lower), np.float32(upper))
        scale, zero, low, high = reach / np.float32(largest), 0.0, -largest, largest
    else:
        scale = (np.float32(upper) - np.float32(lower)) / np.float32(levels)
        zero, low, high = -np.round(np.float32(lower) / scale), 0, levels
    codes = np.clip(np.round(x / np.float64(scale)) + zero, low, high)
    return (codes - zero) * np.float64(scale)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_fake_quantization_is_the_definition(scheme: Scheme) -> None:
    x, lower, upper = _case(scheme)
    grid = grid_between(lower, upper, scheme)
    found = fake_quantize(x, grid).double().numpy()
    parts, lows, highs = x.double().numpy(), lower.numpy(), upper.numpy()
    if scheme.channel_axis is None:
        expected = _reference(parts, float(lows), float(highs), scheme)
    else:
        expected = np.stack([_reference(parts[i], lows[i], highs[i], scheme) for i in range(6)])
    assert np.abs(found - expected).max() < 1e-6
    integers = quantize(x, grid)
    assert integers.min() >= scheme.quant_min
    assert integers.max() <= scheme.quant_max
    torch.testing.assert_close(dequantize(integers, grid), fake_quantize(x, grid))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_all_round_alike_halfway_between_two_integers(scheme: Scheme) -> None:
    """By the reciprocal of the scale, in float32, halves to even: what the format says."""
    _, lower, upper = _case(scheme)
    grid = grid_between(lower, upper, scheme)
    shape = (1, 1) if scheme.channel_axis is None else (6, 1)
    scale, zero = (t.numpy().reshape(shape) for t in (grid.scale, grid.zero_point))
    ties = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * scale
    x = np.concatenate([ties, np.nextafter(ties, np.float32(9)), np.nextafter(ties, -9)], 1)
    expected = np.rint(x.astype(np.float32) * (np.float32(1) / scale)) + zero
    expected = expected.clip(scheme.quant_min, scheme.quant_max)
    values = torch.from_numpy(x.astype(np.float32))
    found = quantize(values, grid)
    assert np.array_equal(found.numpy(), expected)
    assert torch.equal(fake_quantize(values, grid), dequantize(found, grid))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_fused_gradients_are_those_of_the_definition(scheme: Scheme) -> None:
    """autograd through the formula written out, rounding straight through."""
    x, lower, upper = _case(scheme)
    seed = torch.randn_like(x)

    def gradients(written_out: bool) -> list[torch.Tensor]:
        inputs = [item.clone().requires_grad_() for item in (x, lower, upper)]
        grid = grid_between(inputs[1], inputs[2], scheme)
        if written_out:
            shape = () if scheme.channel_axis is None else (6, 1, 1, 1)
            scale, zero = grid.scale.reshape(shape), grid.zero_point.reshape(shape)
            ratio = inputs[0] / scale
            code = (ratio.round() + zero).detach()
            inside = (ratio + (ratio.round() - ratio).detach()) * scale
            low, high = ((end - zero) * scale for end in (scheme.quant_min, scheme.quant_max))
            out = torch.where(code < scheme.quant_min, low, inside)
            out = torch.where(code > scheme.quant_max, high, out)
        else:
            out = fake_quantize(inputs[0], grid)
        (out * seed).sum().backward()
        return [i.grad if i.grad is not None else torch.zeros_like(i) for i in inputs]

    for found, expected in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_zero_is_exact_and_the_ends_are_the_nudged_bounds(scheme: Scheme) -> None:
    _, lower, upper = _case(scheme)
    grid = grid_between(lower, upper, scheme)
    low, high = grid.nudged_bounds()
    shape = (1,) if scheme.channel_axis is None else (6, 1)
    ends = torch.stack([low.reshape(-1) * 9, low.reshape(-1) * 0, high.reshape(-1) * 9], -1)
    found = fake_quantize(ends.reshape(*shape, -1).squeeze(0) if shape == (1,) else ends, grid)
    expected = torch.stack([low.reshape(-1), low.reshape(-1) * 0, high.reshape(-1)], -1)
    torch.testing.assert_close(found.reshape(expected.shape), expected)
    assert ((high - low) / grid.scale).round().eq(scheme.quant_max - scheme.quant_min).all()


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_none(value: float, axis: int | None) -> None:
    x = torch.randn(2, 5)
    bound = torch.ones(() if axis is None else 2)
    grid = grid_between(-bound, bound, Scheme(4, False, axis))
    assert torch.isfinite(fake_quantize(x, grid)).all()
    x[0, 3] = value
    assert not torch.isfinite(fake_quantize(x, grid)[0]).any()


def test_bounds_that_crossed_zero_are_brought_back() -> None:
    grid = grid_between(torch.tensor(0.5), torch.tensor(-0.5), Scheme(8))
    assert torch.isfinite(fake_quantize(torch.randn(10), grid)).all()


def test_inputs_in_half_precision_are_quantized_in_float32() -> None:
    x, lower, upper = _case(Scheme(8))
    grid = grid_between(lower, upper, Scheme(8))
    with torch.autocast("cpu", torch.bfloat16):
        found = fake_quantize(x, grid)
    assert found.dtype == torch.float32
    assert torch.equal(found, fake_quantize(x, grid))


@pytest.mark.parametrize("bits", [1, 9, 16])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"{bits} bits cannot be quantized to; use 2 to 8"):
        Scheme(bits)
