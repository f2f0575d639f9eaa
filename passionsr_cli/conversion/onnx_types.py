"""ONNX graphs whose floating point is in 16 bits, explicitly: strongly typed runtimes, such as
TensorRT from version 11, run what a file says and choose no types of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnxscript import ir

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
# Inputs that ONNX wants in float32 whatever is computed: factors and region of a resized image.
_FLOAT_INPUTS = {"Resize": (1, 2)}
# Of angles up to a timestep of 999, where float16 has steps of half a radian.
_OF_ANGLES = ("Sin", "Cos")


def in_half_precision(graph: Any) -> None:
    """Turn all of a graph's float32 into float16, scales of Q/DQ pairs among them, in place.

    Input and output stay float32, so that programs feed it as they feed any other; norms sum in
    float32, as their `stash_type` says, and a timestep's sines and cosines are taken in it.
    """
    kept = _kept(graph)
    values = {value for node in graph for value in node.outputs}
    for value in (values | set(graph.initializers.values())) - kept:
        if value.dtype == FLOAT:
            value.dtype = HALF
        if value.const_value is not None and value.const_value.dtype == FLOAT:
            half = value.const_value.numpy().astype(np.float16)
            value.const_value = ir.tensor(half, name=value.name)
    for node in list(graph):
        if node.op_type == "Cast" and node.outputs[0].dtype == HALF:
            node.attributes["to"] = ir.AttrInt64("to", HALF.value)
        if node.op_type in _OF_ANGLES:
            _cast_behind(graph, node)
    _cast_at_the_borders(graph)


def _kept(graph: Any) -> set[Any]:
    """Values that stay float32."""
    kept = {
        node.inputs[place]
        for node in graph
        for place in _FLOAT_INPUTS.get(node.op_type, ())
        if place < len(node.inputs)
    }
    made_of = [value for node in graph if node.op_type in _OF_ANGLES for value in node.outputs]
    while made_of:
        value = made_of.pop()
        if value.dtype == FLOAT and value not in kept:
            kept.add(value)
            made_of += () if value.producer() is None else value.producer().inputs
    return kept


def _cast_behind(graph: Any, node: Any) -> None:
    cast = ir.node("Cast", [node.outputs[0]], {"to": HALF.value})
    cast.outputs[0].dtype, cast.outputs[0].shape = HALF, node.outputs[0].shape
    ir.convenience.replace_all_uses_with(node.outputs[0], cast.outputs[0])
    cast.replace_input_with(0, node.outputs[0])
    graph.insert_after(node, cast)


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
