from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
import torch
import torch.nn.functional as F
from openvino import opset13 as ops

from passionsr_cli.conversion.graph_passes import fit_to_cpu
from passionsr_cli.conversion.kernels import is_integer_kernel
from passionsr_cli.conversion.stored_graphs import PART_SUFFIX
from passionsr_cli.graphs.core import core

SCALE = 0.01
SHAPE = (2, 32, 5, 7)


def _doubled(x: Any) -> Any:
    factors = ops.constant(np.array([2.0, 2.0], np.float32))
    axes = ops.constant(np.array([2, 3]))
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return ops.interpolate(x, factors, "nearest", "scales", axes=axes, **how)


def _model(
    weight: torch.Tensor, on_integers: bool, padded: bool = False, doubled: Any = _doubled
) -> openvino.Model:
    """Upsampling, rounding to codes of `SCALE`, a convolution with a bias, and a reader."""
    source: Any = ops.parameter(list(SHAPE), np.float32)
    x = doubled(source)
    if padded:
        x = ops.pad(x, [0, 0, 1, 1], [0, 0, 1, 1], "constant", 0.0)
    # Zero is code 100 of some channels and beyond the codes of others.
    lower = np.linspace(-1, 0.3, SHAPE[1], dtype=np.float32).reshape(1, -1, 1, 1)
    bounds = [ops.constant(np.float32(bound)) for bound in (-100 * SCALE, 155 * SCALE)]
    whole = [ops.constant(lower), ops.constant(lower + np.float32(255 * SCALE))]
    x = ops.fake_quantize(x, *(whole if padded else bounds), *bounds, 256)
    if on_integers:
        integers = ops.convert(ops.constant(weight.numpy().astype(np.int8)), "f32")
        constant = ops.multiply(integers, ops.constant(np.full((24, 1, 1, 1), SCALE, np.float32)))
    else:
        constant = ops.constant(weight.numpy())
    pads = [0, 0] if padded else [1, 1]
    product = ops.convolution(x, constant, [1, 1], pads, pads, [1, 1])
    product.set_friendly_name("layer")
    bias = ops.constant(np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, -1, 1, 1))
    return openvino.Model([ops.relu(ops.add(product, bias))], [source])


def _wanted(weight: torch.Tensor, x: torch.Tensor, padded: bool) -> torch.Tensor:
    """The same by torch in float64."""
    x = F.interpolate(x.double(), scale_factor=2, mode="nearest")
    lower = torch.full((1, SHAPE[1], 1, 1), -100 * SCALE, dtype=torch.double)
    if padded:
        x = F.pad(x, (1, 1, 1, 1))
        lower = torch.linspace(-1, 0.3, SHAPE[1]).double().reshape(1, -1, 1, 1)
    codes = torch.round(((x - lower) / SCALE).clamp(0, 255)) - 100
    result = F.conv2d(codes * SCALE, weight.double(), padding=0 if padded else 1)
    return (result + torch.linspace(-1, 1, 24).double().reshape(1, -1, 1, 1)).relu()


def _off_ties(padded: bool) -> torch.Tensor:
    """Inputs near the middle of a code's interval, also beyond the first and the last code."""
    lower = torch.linspace(-1, 0.3, SHAPE[1]).reshape(1, -1, 1, 1) if padded else -100 * SCALE
    codes = torch.randint(-20, 280, SHAPE) + 0.6 * torch.rand(SHAPE) - 0.3
    return lower + codes * SCALE


def _products(model: openvino.Model) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("on_integers", [False, True])
def test_four_small_convolutions_are_the_one_behind_upsampling(
    on_integers: bool, padded: bool
) -> None:
    torch.manual_seed(0)
    integers = torch.randint(-31, 32, (24, SHAPE[1], 3, 3))
    weight = integers if on_integers else integers * SCALE
    model = _model(weight, on_integers, padded)
    fit_to_cpu(model)
    assert "Interpolate" not in {node.get_type_name() for node in model.get_ordered_ops()}
    names = [node.get_friendly_name() for node in _products(model)]
    assert sorted(names) == [f"layer{PART_SUFFIX}{number}" for number in range(4)]
    assert {tuple(node.input(1).get_shape()[2:]) for node in _products(model)} == {(2, 2)}
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = _off_ties(padded)
    found = torch.from_numpy(compiled([x.numpy()])[0].copy())
    wanted = _wanted(integers * SCALE, x, padded)
    assert torch.allclose(found.double(), wanted, atol=1e-4)
    kernels = [
        str(node.get_rt_info()["primitiveType"].astype(str))
        for node in compiled.get_runtime_model().get_ops()
        if str(node.get_rt_info()["layerType"].astype(str)) == "Convolution"
    ]
    assert [is_integer_kernel(kernel) for kernel in kernels] == [on_integers] * 4


@pytest.mark.parametrize(("saturating", "largest"), [(False, 127), (True, 64)])
def test_integers_whose_sums_are_too_large_stay(saturating: bool, largest: int) -> None:
    """One channel of which is not exact on this CPU; each weight is."""
    weight = torch.zeros(24, SHAPE[1], 3, 3, dtype=torch.int64)
    weight[7, 5, :2, 1:] = largest // 4
    weight[7, 5, 1, 2] += largest % 4
    model = _model(weight, on_integers=True)
    fit_to_cpu(model, saturating)
    assert len(_products(model)) == 4
    weight[7, 5, 0, 1] += 1
    model = _model(weight, on_integers=True)
    fit_to_cpu(model, saturating)
    assert [node.get_friendly_name() for node in _products(model)] == ["layer"]


def _smoothed(x: Any) -> Any:
    factors, axes = ops.constant(np.array([2.0, 2.0], np.float32)), ops.constant(np.array([2, 3]))
    return ops.interpolate(x, factors, "linear_onnx", "scales", axes=axes)


def _tripled(x: Any) -> Any:
    factors, axes = ops.constant(np.array([3.0, 3.0], np.float32)), ops.constant(np.array([2, 3]))
    return ops.interpolate(x, factors, "nearest", "scales", axes=axes)


@pytest.mark.parametrize("doubled", [_smoothed, _tripled])
def test_other_enlargements_stay(doubled: Any) -> None:
    model = _model(torch.ones(24, SHAPE[1], 3, 3), on_integers=False, doubled=doubled)
    fit_to_cpu(model)
    assert [node.get_friendly_name() for node in _products(model)] == ["layer"]


def test_borders_that_repeat_the_image_stay() -> None:
    """Mirrored before it is enlarged, another row would be repeated."""

    def bordered(x: Any) -> Any:
        return ops.pad(_doubled(x), [0, 0, 1, 1], [0, 0, 1, 1], "reflect")

    source: Any = ops.parameter(list(SHAPE), np.float32)
    weight = ops.constant(np.ones((24, SHAPE[1], 3, 3), np.float32))
    product = ops.convolution(bordered(source), weight, [1, 1], [0, 0], [0, 0], [1, 1])
    product.set_friendly_name("layer")
    model = openvino.Model([product], [source])
    fit_to_cpu(model)
    assert [node.get_friendly_name() for node in _products(model)] == ["layer"]
