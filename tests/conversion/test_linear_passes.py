from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
import torch
import torch.nn.functional as F
from openvino import opset13 as ops

from passionsr_cli.conversion.graph_passes import fit_to_cpu
from passionsr_cli.conversion.stored_graphs import PART_SUFFIX
from passionsr_cli.graphs.core import core


def _run(model: openvino.Model, x: torch.Tensor) -> list[torch.Tensor]:
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [torch.from_numpy(output.copy()) for output in compiled([x.numpy()]).values()]


def _products(model: openvino.Model) -> list[str]:
    kinds = ("Convolution", "MatMul")
    return [n.get_friendly_name() for n in model.get_ordered_ops() if n.get_type_name() in kinds]


def _convolution(x: Any, weight: torch.Tensor, bias: torch.Tensor | None, pad: int) -> Any:
    pads = [pad, pad]
    product = ops.convolution(x, ops.constant(weight.numpy()), [1, 1], pads, pads, [1, 1])
    return product if bias is None else ops.add(product, bias.reshape(1, -1, 1, 1).numpy())


@pytest.mark.parametrize("biased", [True, False])
def test_a_convolution_and_a_pointwise_one_become_one(biased: bool) -> None:
    """Also at the border, where the second one sees no zeros."""
    torch.manual_seed(0)
    x, first, second = torch.randn(1, 8, 6, 5), torch.randn(12, 8, 3, 3), torch.randn(12, 12, 1, 1)
    biases = [torch.randn(12) if biased else None for _ in range(2)]

    def graph() -> openvino.Model:
        source: Any = ops.parameter(list(x.shape), np.float32)
        between = _convolution(source, first, biases[0], 1)
        parts = ops.variadic_split(_convolution(between, second, biases[1], 0), 1, [4, 8])
        return openvino.Model([ops.relu(parts.output(0))], [source])

    # Nodes that someone still holds count as readers of what they read.
    model = graph()
    fit_to_cpu(model)
    assert len(_products(model)) == 1
    wanted = F.conv2d(F.conv2d(x, first, biases[0], padding=1), second, biases[1])[:, :4].relu()
    (found,) = _run(model, x)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_what_would_be_more_work_stays() -> None:
    torch.manual_seed(0)
    source: Any = ops.parameter([1, 8, 6, 5], np.float32)
    narrow = _convolution(source, torch.randn(2, 8, 3, 3), None, 1)
    wide = _convolution(narrow, torch.randn(64, 2, 1, 1), None, 0)
    strided = ops.convolution(
        _convolution(source, torch.randn(8, 8, 3, 3), None, 1),
        ops.constant(np.ones((8, 8, 1, 1), np.float32)),
        *([2, 2], [0, 0], [0, 0], [1, 1]),
    )
    model = openvino.Model([wide, strided], [source])
    fit_to_cpu(model)
    assert len(_products(model)) == 4


def test_two_readers_keep_what_they_read() -> None:
    torch.manual_seed(0)
    source: Any = ops.parameter([1, 8, 6, 5], np.float32)
    first = _convolution(source, torch.randn(8, 8, 3, 3), None, 1)
    second = _convolution(first, torch.randn(8, 8, 1, 1), None, 0)
    model = openvino.Model([second, ops.relu(first)], [source])
    fit_to_cpu(model)
    assert len(_products(model)) == 2


@pytest.mark.parametrize(("plain", "kernels"), [(12, [1]), (9, [1, 3]), (5, [3])])
@pytest.mark.parametrize("dilation", [1, 2])
def test_kernels_that_are_zero_around_their_middle_become_small(
    plain: int, kernels: list[int], dilation: int
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 8, 7, 6), torch.randn(12, 8, 3, 3)
    weight[:plain] *= F.pad(torch.ones(1, 1), (1, 1, 1, 1))

    def graph() -> openvino.Model:
        source: Any = ops.parameter(list(x.shape), np.float32)
        pads = [dilation] * 2
        product = ops.convolution(source, ops.constant(weight.numpy()), [1, 1], pads, pads, pads)
        return openvino.Model([ops.relu(product)], [source])

    model = graph()
    fit_to_cpu(model)
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    assert sorted(node.input_value(1).get_shape()[-1] for node in nodes) == kernels
    (found,) = _run(model, x)
    wanted = F.conv2d(x, weight, padding=dilation, dilation=dilation).relu()
    assert torch.allclose(found, wanted, atol=1e-5)


def test_the_halves_of_a_gate_are_products_of_their_own_on_integers() -> None:
    torch.manual_seed(0)
    x, codes = torch.randn(1, 5, 16), torch.randint(-127, 128, (64, 16), dtype=torch.int8)
    scale, bias = torch.rand(64, 1) / 100, torch.randn(64)
    source: Any = ops.parameter(list(x.shape), np.float32)
    bounds = [ops.constant(np.float32(bound)) for bound in (-4.0, 4.0 * 127 / 128)]
    rounded = ops.fake_quantize(source, *bounds, *bounds, 256)
    weight = ops.multiply(ops.convert(ops.constant(codes.numpy()), "f32"), scale.numpy())
    product = ops.matmul(rounded, weight, False, True)
    product.set_friendly_name("layer")
    parts = ops.variadic_split(ops.add(product, bias.numpy()), -1, [32, 32])
    model = openvino.Model(
        [ops.multiply(parts.output(0), ops.gelu(parts.output(1), "erf"))], [source]
    )
    fit_to_cpu(model)
    assert _products(model) == [f"layer{PART_SUFFIX}0", f"layer{PART_SUFFIX}32"]
    steps = (x * 32).round().clamp(-128, 127) / 32
    value, gate = F.linear(steps, codes * scale, bias).chunk(2, -1)
    (found,) = _run(model, x)
    assert torch.allclose(found, value * F.gelu(gate), atol=1e-4)


def test_a_split_of_something_else_stays() -> None:
    source: Any = ops.parameter([1, 8, 6, 5], np.float32)
    product = _convolution(source, torch.randn(8, 8, 3, 3), None, 1)
    along_rows = ops.variadic_split(product, 2, [2, 4])
    seen = _convolution(source, torch.randn(8, 8, 3, 3), None, 1)
    parts = ops.variadic_split(seen, 1, [4, 4])
    outputs = [along_rows.output(0), parts.output(0), ops.relu(seen).output(0)]
    model = openvino.Model([ops.relu(output) for output in outputs], [source])
    fit_to_cpu(model)
    kinds = [node.get_type_name() for node in model.get_ops()]
    assert kinds.count("VariadicSplit") == 2
