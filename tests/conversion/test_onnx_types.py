from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from passionsr_cli.conversion.onnx_graph import INPUT_NAME, program
from passionsr_cli.conversion.onnx_types import in_half_precision
from passionsr_cli.conversion.tracing import Component, Operation
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.quantization.quantizer import FrozenQuantizer
from passionsr_cli.quantization.schemes import Scheme

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


class _Part(nn.Module):
    """What is around integers: norms, a resized image, products of rounded values."""

    def __init__(self, rounding: FrozenQuantizer) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)
        self.model = nn.ModuleDict({"rounding": rounding})

    def forward(self, x: Tensor) -> Tensor:
        large = F.interpolate(F.silu(self.norm(x)), scale_factor=2.0, mode="nearest")
        rounded = self.model["rounding"](large)
        return large @ rounded.transpose(-1, -2)


@functools.cache
def _program(bits: int, symmetric: bool) -> tuple[_Part, Tensor, onnx.ModelProto, onnx.ModelProto]:
    torch.manual_seed(1)
    x = torch.randn(1, 4, 8, 8)
    scheme = Scheme(bits, symmetric)
    grid = Grid(scheme, torch.tensor(1.0 / scheme.quant_max), torch.tensor(0.0))
    rounding = FrozenQuantizer(grid)
    part = _Part(rounding).requires_grad_(False)
    component = Component(part, x, (Operation("rounding", rounding, None),), ())
    whole, half = program(component, 8), program(component, 8)
    in_half_precision(half.model.graph)
    return part, x, whole.model_proto, half.model_proto


@pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (8, False), (4, True)])
def test_all_that_is_no_integer_is_float16(bits: int, symmetric: bool) -> None:
    part, x, whole, half = _program(bits, symmetric)
    onnx.checker.check_model(half, full_check=True)
    graph = onnx.shape_inference.infer_shapes(half, strict_mode=True).graph
    assert {each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)} == {FLOAT}
    resize = next(node for node in graph.node if node.op_type == "Resize")
    types = {each.name: each.type.tensor_type.elem_type for each in graph.value_info}
    types |= {each.name: each.data_type for each in graph.initializer}
    assert {name for name, kind in types.items() if kind == FLOAT} == {resize.input[2]}
    assert HALF in types.values()
    kinds = [node.op_type for node in graph.node]
    assert kinds[0] == kinds[-1] == "Cast"
    assert kinds.count("Cast") == 2
    wanted = part(x).numpy()
    for model, tolerance in ((whole, 1e-5), (half, 4e-3)):
        found = onnxruntime.InferenceSession(model.SerializeToString()).run(
            None, {INPUT_NAME: x.numpy()}
        )[0]
        assert found.dtype == np.float32
        far = np.abs(found - wanted) > tolerance * np.abs(wanted).max()
        assert far.mean() < 0.01


class _Timestep(nn.Module):
    """Sines and cosines of large angles, for as many images as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()

    def forward(self, x: Tensor) -> Tensor:
        frequencies = torch.exp(-torch.arange(4) / 3.0)
        angles = torch.tensor([999]).expand(x.shape[0])[:, None].float() * frequencies
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        return x + waves[:, :, None, None].to(x.dtype)


def test_large_angles_are_float32() -> None:
    part, x = _Timestep(), torch.zeros(1, 8, 2, 2)
    converted = program(Component(part, x, (), ()))
    in_half_precision(converted.model.graph)
    model = converted.model_proto
    onnx.checker.check_model(model, full_check=True)
    assert {"Sin", "Cos"} <= {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = session.run(None, {INPUT_NAME: x.numpy()})[0]
    np.testing.assert_allclose(found, part(x).numpy(), atol=1e-3)


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_values_are_transposed_first(bits: int) -> None:
    _, _, whole, _ = _program(bits, True)
    made_by = {name: node for node in whole.graph.node for name in node.output}
    product = next(node for node in whole.graph.node if node.op_type == "MatMul")
    value = made_by[product.input[1]]
    chain = []
    while value.op_type != "Transpose":
        chain.append(value.op_type)
        value = made_by[value.input[0]]
    assert chain == ["DequantizeLinear", "QuantizeLinear", "Clip"]
