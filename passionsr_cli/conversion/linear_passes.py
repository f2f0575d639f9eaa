"""Rewriting products with constants: what is zero or read by nobody is left out, two in a row
become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from openvino import opset13 as ops

from passionsr_cli.conversion.stored_graphs import PART_SUFFIX

# The axis of a product's output that the rows of its weight become.
CHANNEL_AXIS = {"Convolution": 1, "MatMul": -1}

Node = Any


def compute_apart(split: Node) -> None:
    """A product that is split along its channels becomes one product for each part that is read.

    Splitting costs a pass over the output, by one core, and a part that nobody reads its share of
    the product.
    """
    product, bias = with_bias(split.input_value(0))
    readers = [target.get_node() for target in split.input_value(0).get_target_inputs()]
    # Shapes are all known: who asks for one does not need the product.
    others = {each.get_type_name() for each in readers} - {"VariadicSplit", "ShapeOf"}
    if product is None or others or not _has_rows(product.input_value(1)):
        return
    axis, start = CHANNEL_AXIS[product.get_type_name()], 0
    axes = constant_of(split.input_value(1))
    rank = len(split.input_value(0).get_partial_shape())
    if axes is None or int(axes.item()) % rank != axis % rank:
        return
    for output in split.outputs():
        stop = start + int(output.get_partial_shape()[axis].get_length())
        if output.get_target_inputs():
            part = _product(product, _rows(product.input_value(1), start, stop))
            part.set_friendly_name(f"{product.get_friendly_name()}{PART_SUFFIX}{start}")
            if bias is not None:
                part = ops.add(part, ops.constant(bias.take(range(start, stop), axis)))
            for target in list(output.get_target_inputs()):
                target.replace_source_output(part.output(0))
        start = stop


def merge_pointwise(second: Node) -> None:
    """A convolution of 1×1 and the one before it, both of floats, become one where that is less
    work: B (A x + a) + b = (B A) x + (B a + b)."""
    first, before = with_bias(second.input_value(0))
    weights = [constant_of(each.input_value(1)) for each in (first, second) if each is not None]
    readers = len(second.input_value(0).get_target_inputs())
    if len(weights) < 2 or any(weight is None for weight in weights) or readers > 1:
        return
    outer, inner = (weight.astype(np.float64) for weight in reversed(weights))
    steps = second.get_attributes()
    plain = list(steps["strides"]) == [1, 1] and not any(steps["pads_begin"] + steps["pads_end"])
    merged_work = len(outer) * inner[0].size
    if first.get_type_name() != "Convolution" or outer.shape[2:] != (1, 1) or not plain:
        return
    if merged_work >= inner.size + outer.size:
        return
    merged = np.einsum("om,mikl->oikl", outer[:, :, 0, 0], inner)
    result = _product(first, ops.constant(merged.astype(np.float32)))
    result.set_friendly_name(second.get_friendly_name())
    if before is not None:
        bias = outer[:, :, 0, 0] @ before.astype(np.float64).reshape(-1)
        result = ops.add(result, ops.constant(bias.astype(np.float32).reshape(1, -1, 1, 1)))
    for target in list(second.output(0).get_target_inputs()):
        target.replace_source_output(result.output(0))


def leave_out_rims(node: Node) -> None:
    """A convolution of floats whose kernels, or more than half of them from the first on, are zero
    but for their middle: these become one of 1×1."""
    weight = constant_of(node.input_value(1))
    if weight is None or weight.shape[2] != weight.shape[3] or weight.shape[2] % 2 == 0:
        return
    rim = weight.shape[2] // 2
    rows = next((row for row, kernels in enumerate(weight) if _has_rim(kernels)), len(weight))
    steps = node.get_attributes()
    reach = [rim * step for step in steps["dilations"]]
    is_padded = all(list(steps[side]) == reach for side in ("pads_begin", "pads_end"))
    if not (rim and is_padded and 2 * rows > len(weight)):
        return
    middle = weight[:rows, :, rim : rim + 1, rim : rim + 1].astype(np.float32)
    unpadded = {**steps, "pads_begin": [0, 0], "pads_end": [0, 0]}
    result = _convolution(node.input_value(0), ops.constant(middle), unpadded)
    if rows < len(weight):
        others = ops.constant(weight[rows:].astype(np.float32))
        result = ops.concat([result, _convolution(node.input_value(0), others, steps)], 1)
    for target in list(node.output(0).get_target_inputs()):
        target.replace_source_output(result.output(0))


def _has_rim(kernels: Any) -> bool:
    """Tell whether kernels (C, k, k) have anything around their middle."""
    middle = kernels.shape[-1] // 2
    return bool(np.count_nonzero(kernels) > np.count_nonzero(kernels[:, middle, middle]))


def with_bias(value: Node) -> tuple[Node, Any]:
    """The product that a value is, and the constant added to it; None for what is not there."""
    node, bias = value.get_node(), None
    if node.get_type_name() == "Add":
        bias = constant_of(node.input_value(1))
        if bias is None:
            return None, None
        node = node.input_value(0).get_node()
    if node.get_type_name() == "Convolution":
        return node, bias
    if node.get_type_name() == "MatMul" and node.get_attributes()["transpose_b"]:
        return node, bias
    return None, None


def constant_of(value: Node) -> Any:
    """The numbers of a constant, which may be stored in half precision; None for all else."""
    node = value.get_node()
    if node.get_type_name() == "Convert" and node.get_element_type().is_real():
        node = node.input_value(0).get_node()
        if not node.get_element_type().is_real():
            return None
    return node.get_data() if node.get_type_name() == "Constant" else None


def _has_rows(weight: Node) -> bool:
    node = weight.get_node()
    if node.get_type_name() in ("Convert", "Multiply"):
        return all(_has_rows(value) for value in node.input_values())
    return bool(node.get_type_name() == "Constant")


def _rows(weight: Node, start: int, stop: int) -> Node:
    """Rows of a weight: of a constant, or of integers times a scale for each row."""
    node = weight.get_node()
    if node.get_type_name() == "Convert":
        return ops.convert(_rows(node.input_value(0), start, stop), node.get_element_type())
    if node.get_type_name() == "Multiply":
        return ops.multiply(*(_rows(value, start, stop) for value in node.input_values()))
    values = node.get_data()
    is_shared = values.ndim == 0 or len(values) == 1
    return ops.constant(values if is_shared else values[start:stop].copy())


def _product(like: Node, weight: Node) -> Node:
    """The same product with another weight."""
    x, settings = like.input_value(0), like.get_attributes()
    if like.get_type_name() == "MatMul":
        return ops.matmul(x, weight, settings["transpose_a"], True)
    return _convolution(x, weight, settings)


def _convolution(x: Node, weight: Node, settings: Mapping[str, Any]) -> Node:
    steps = (settings[name] for name in ("strides", "pads_begin", "pads_end", "dilations"))
    return ops.convolution(x, weight, *(list(each) for each in steps))
