"""ONNX graphs whose floating point is in 16 bits, explicitly: strongly typed runtimes, such as
TensorRT from version 11, run what a file says and choose no types of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnxscript import ir

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
# Inputs that ONNX wants in float32 whatever is computed: factors and region of a resized image.
_FLOAT_INPUTS = {"Resize": (1, 2)}


def in_half_precision(graph: Any) -> None:
    """Turn all of a graph's float32 into float16, scales of Q/DQ pairs among them, in place.

    Input and output stay float32, so that programs feed it as they feed any other; norms sum in
    float32, as their `stash_type` says.
    """
    kept = {
        node.inputs[place]
        for node in graph
        for place in _FLOAT_INPUTS.get(node.op_type, ())
        if place < len(node.inputs)
    }
    values = {value for node in graph for value in node.outputs}
    for value in (values | set(graph.initializers.values())) - kept:
        if value.dtype == FLOAT:
            value.dtype = HALF
        if value.const_value is not None and value.const_value.dtype == FLOAT:
            half = value.const_value.numpy().astype(np.float16)
            value.const_value = ir.tensor(half, name=value.name)
    for node in graph:
        if node.op_type == "Cast" and node.attributes["to"].as_int() == FLOAT.value:
            node.attributes["to"] = ir.AttrInt64("to", HALF.value)
    _cast_at_the_borders(graph)


def _cast_at_the_borders(graph: Any) -> None:
    (image,), (result,) = graph.inputs, graph.outputs
    inward = ir.node("Cast", [image], {"to": HALF.value})
    inward.outputs[0].dtype, inward.outputs[0].shape = HALF, image.shape
    ir.convenience.replace_all_uses_with(image, inward.outputs[0])
    inward.replace_input_with(0, image)
    graph.insert_before(graph[0], inward)
    outward = ir.node("Cast", [result], {"to": FLOAT.value})
    outward.outputs[0].dtype, outward.outputs[0].shape = FLOAT, result.shape
    graph.append(outward)
    outward.outputs[0].name, result.name = result.name, f"{result.name}_in_half"
    graph.outputs[0] = outward.outputs[0]
