"""The components of a model as ONNX graphs with standard quantize–dequantize (QDQ) pairs.

A quantized layer becomes, as far as it has them: an explicit border, Sub and Mul (the
transformation), Clip (where its grid has fewer levels than 8 bits), QuantizeLinear and
DequantizeLinear on its input, DequantizeLinear on its int8 weights, and the plain Conv or MatMul.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import ir
from onnxscript import opset21 as op
from torch import Tensor

from passionsr_cli.conversion.tracing import Component, Operation, traced_as_operations
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.products import Convolution, Product
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.quantization.quantizer import FrozenQuantizer

OPSET = 21
INPUT_NAME, OUTPUT_NAME = "input", "output"
_FREE_AXES = ({0: "batch", 2: "height", 3: "width"},)
_LAYER_KEY = "passionsr.layer"

Value = Any


def program(traced: Component, side: int | None = None) -> Any:
    """A component as a `torch.onnx.ONNXProgram`.

    It takes any batch, height and width, or with `side` one square of that size. Products of
    quantized layers are named like their layers.
    """

    def convert(x: Value, number: int) -> Value:
        return _operation_value(traced.operations[number], x)

    if side is None:
        # torch.export takes sides of 1 for constants.
        example, axes = traced.example.expand(2, -1, -1, -1).clone(), _FREE_AXES
    else:
        example, axes = torch.zeros(1, traced.example.shape[1], side, side), None
    with traced_as_operations(traced) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            part,
            (example,),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=axes,
            custom_translation_table={torch.ops.passionsr.module.default: convert},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert converted is not None
    for node in converted.model.graph:
        if _LAYER_KEY in node.metadata_props:
            node.name = node.metadata_props.pop(_LAYER_KEY)
    _unshare_zero_points(converted.model.graph)
    _transpose_before_rounding(converted.model.graph)
    return converted


def _unshare_zero_points(graph: Any) -> None:
    """Give each layer a zero point of its own: the exporter keeps equal constants once.

    On CPUs without VNNI onnxruntime 1.32 turns int8 weights and their zero points into uint8, and
    refuses the second layer that shares one.
    """
    shared = set()
    for node in graph:
        if node.op_type != "DequantizeLinear" or len(node.inputs) < 3:
            continue
        zeros = node.inputs[2]
        if zeros.const_value is None or zeros.const_value.dtype != ir.DataType.INT8:
            continue
        if zeros.name in shared:
            name = f"{zeros.name}_of_{node.name}"
            value = ir.tensor(zeros.const_value.numpy(), name=name)
            own = ir.Value(name=name, type=zeros.type, shape=zeros.shape, const_value=value)
            graph.register_initializer(own)
            node.replace_input_with(2, own)
        shared.add(zeros.name)


def _transpose_before_rounding(graph: Any) -> None:
    """Put transpositions of rounded values before their rounding, where they are as right.

    DequantizeLinear then stands right before the product, where runtimes look for it. onnxruntime
    1.32 moves such a transposition through pairs of int8 itself, and then refuses what it made.
    """
    for node in list(graph):
        pair = _rounding(node.inputs[0]) if node.op_type == "Transpose" else []
        if not pair:
            continue
        transposed, x = node.outputs[0], pair[0].inputs[0]
        moved = ir.node("Transpose", [x], {"perm": node.attributes["perm"].as_ints()})
        moved.outputs[0].type, moved.outputs[0].shape = x.type, transposed.shape
        graph.insert_before(pair[0], moved)
        pair[0].replace_input_with(0, moved.outputs[0])
        for each in pair:
            each.outputs[0].shape = transposed.shape
        ir.convenience.replace_all_uses_with(transposed, pair[-1].outputs[0])
        graph.remove(node, safe=True)


def _rounding(value: Any) -> list[Any]:
    """Clip, if there is one, QuantizeLinear and DequantizeLinear of one scale that give a value
    which nothing else reads, or nothing."""
    chain: list[Any] = []
    for kind in ("DequantizeLinear", "QuantizeLinear", "Clip"):
        node = value.producer()
        if node is None or node.op_type != kind or len(value.uses()) != 1:
            return chain if kind == "Clip" else []
        chain.insert(0, node)
        value = node.inputs[0]
    return chain


def _operation_value(operation: Operation, x: Value) -> Value:
    if operation.constant is not None:
        return _constant(operation.constant)
    if isinstance(operation.module, FrozenQuantizer):
        return _rounded(x, operation.module.grid())
    return layer_value(operation.module, operation.name, x)


def layer_value(layer: FrozenLayer, name: str, x: Value) -> Value:
    """A frozen convolution or linear layer applied to a float32 value."""
    whole, product, padded = x, layer.product, False
    shift = layer.channel_shift
    if shift is not None and isinstance(product, Convolution) and any(product.padding):
        # Zero is only zero on the grid of X, so the border must be there before it.
        border = torch.tensor([0, 0, *product.padding, 0, 0, *product.padding])
        x, padded = op.Pad(x, _constant(border)), True
    if shift is not None:
        x = op.Sub(x, _along_channels(product, shift))
    if layer.channel_scale is not None:
        x = op.Mul(x, _along_channels(product, 1 / layer.channel_scale.double()))
    if layer.input_grid is not None:
        x = _rounded(x, layer.input_grid)
    bias, weight = layer.bias, _weight(layer.stored_weight(), layer.weight_grid)
    if isinstance(product, Convolution):
        result = _convolution(product, x, weight, bias, padded)
    else:
        result = op.MatMul(x, weight)
    # The exporter names nodes itself; what belongs to a layer is found again by this.
    result.producer().metadata_props[_LAYER_KEY] = name
    if bias is not None and not isinstance(product, Convolution):
        # Were it of one axis, onnxruntime 1.32 would make a Gemm of both and flatten the input for
        # it, behind its rounding: no kernel on integers then, and a refusal where they are int8.
        result = op.Add(result, _constant(bias.reshape([1] * (len(whole.shape) - 1) + [-1])))
    if layer.branch is None:
        return result
    return op.Add(result, _branch(product, whole, layer.branch))


def _convolution(
    product: Convolution, x: Value, weight: Value, bias: Tensor | None, padded: bool = False
) -> Value:
    constant = None if bias is None else _constant(bias)
    strides, dilations = list(product.stride), list(product.dilation)
    pads = [0] * 4 if padded else [*product.padding, *product.padding]
    return op.Conv(x, weight, constant, strides=strides, pads=pads, dilations=dilations)


def _branch(product: Product, x: Value, branch: tuple[Tensor, Tensor]) -> Value:
    """L₁(L₂ X), rounded to bfloat16 where the definition is, but multiplied in float32: ONNX's
    CPU kernels know no products of bfloat16."""
    down, up = branch
    if isinstance(product, Convolution):
        hidden = _convolution(product, _half(x), _weight(down.float(), None), None)
        return _half(op.Conv(_half(hidden), _weight(up.float(), None)))
    hidden = op.MatMul(_half(x), _weight(down.float(), None))
    return _half(op.MatMul(_half(hidden), _weight(up.float(), None)))


def _half(x: Value) -> Value:
    """The nearest numbers that bfloat16 has."""
    half: Value = op.Cast(x, to=onnx.TensorProto.BFLOAT16)
    return op.Cast(half, to=onnx.TensorProto.FLOAT)


def _weight(weight: Tensor, grid: Grid | None) -> Value:
    """Float weights, or integers and DequantizeLinear; those of a product are transposed."""
    transposed = weight.dim() == 2
    turned = weight.t() if transposed else weight
    if grid is None:
        return _constant(turned)
    axis = 1 if transposed else 0
    zero_point = grid.zero_point.to(torch.int64)
    shape = [1] * weight.dim()
    shape[axis] = zero_point.numel()
    integers = turned.to(torch.int64) - zero_point.reshape(shape)
    if integers.abs().max() <= 127:
        # Asymmetric grids below 8 bits fit int8 once their zero point is taken off.
        stored, zeros = integers.to(torch.int8), torch.zeros_like(zero_point, dtype=torch.int8)
    else:
        stored, zeros = turned.to(torch.uint8), zero_point.to(torch.uint8)
    return op.DequantizeLinear(
        _constant(stored), _constant(grid.scale.float()), _constant(zeros), axis=axis
    )


def _rounded(x: Value, grid: Grid) -> Value:
    """The nearest representable values: Clip to b bits, then the grid of the same step in 8."""
    scheme = grid.scheme
    if scheme.symmetric or scheme.quant_max < 255:
        # QuantizeLinear itself saturates at -128 and 255.
        lower, upper = grid.nudged_bounds()
        x = op.Clip(x, _constant(lower.float()), _constant(upper.float()))
    kind = torch.int8 if scheme.symmetric else torch.uint8
    scale, zero_point = _constant(grid.scale.float()), _constant(grid.zero_point.to(kind))
    return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero_point), scale, zero_point)


def _along_channels(product: Product, values: Tensor) -> Value:
    shape = (1, -1, 1, 1) if isinstance(product, Convolution) else (-1,)
    return _constant(values.float().reshape(shape))


def _constant(value: Tensor) -> Value:
    array = np.ascontiguousarray(value.detach().cpu().numpy())
    return op.Constant(value=onnx.numpy_helper.from_array(array))
