"""A 3×3 convolution behind a nearest-neighbour upsampling by two, on the grid before it.

Each pixel of the result sees only 2×2 different pixels there, so that sums of up to four weights do
with 16 products what nine weights do with 36, four times over:

    result[2i + a, 2j + b] = Σ sums[a, b][k, l] · x[i + a − 1 + k, j + b − 1 + l]

with a, b, k and l in {0, 1}.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from openvino import opset13 as ops

from passionsr_cli.conversion.linear_passes import constant_of, with_bias
from passionsr_cli.conversion.stored_graphs import PART_SUFFIX

# Of integer kernels, and of those that sum two products in 16 bits (see `saturation`).
LARGEST_WEIGHT, LARGEST_SATURATING_WEIGHT = 127, 64
# The three rows of a kernel, summed as the even and the odd rows of the result see them.
ROWS = ([[0], [1, 2]], [[0, 1], [2]])

Node = Any


def convolve_before_enlarging(node: Node, saturating: bool = False) -> None:
    """Replace such a convolution, of floats or of integers whose sums are exact on the CPU, whose
    sums of two products may be `saturating`, by four of 2×2, whose results are interleaved."""
    between, enlarged = _elementwise_to(node.input_value(0))
    weight = _Weight.of(node.input_value(1))
    if weight is None or not _doubles(enlarged) or not _is_plain(node, between):
        return
    largest = LARGEST_SATURATING_WEIGHT if saturating else LARGEST_WEIGHT
    places = itertools.product((0, 1), (0, 1))
    parts = {(row, column): weight.summed(row, column, largest) for row, column in places}
    if any(part is None for part in parts.values()):
        return
    x = enlarged.input_value(0)
    for each in reversed(between):
        x = _again(each, x)
    height, width = (int(side.get_length()) for side in enlarged.get_output_partial_shape(0)[2:])
    is_padded = any(each.get_type_name() == "Pad" for each in between)
    bias, last = _bias_behind(node)
    results = []
    for (row, column), part in parts.items():
        begin, end = [1 - row, 1 - column], [row, column]
        seen = x
        if is_padded:
            start, stop = [row, column], [height // 2 + row + 1, width // 2 + column + 1]
            seen = ops.slice(x, *(np.array(each) for each in (start, stop, [1, 1], [2, 3])))
            begin = end = [0, 0]
        result = ops.convolution(seen, part, [1, 1], begin, end, [1, 1])
        name = f"{node.get_friendly_name()}{PART_SUFFIX}{2 * row + column}"
        result.set_friendly_name(name)
        results.append(result if bias is None else ops.add(result, ops.constant(bias)))
    whole = ops.depth_to_space(ops.concat(results, 1), "blocks_first", 2)
    for target in list(last.output(0).get_target_inputs()):
        target.replace_source_output(whole.output(0))


class _Weight:
    """A weight (O, C, 3, 3): floats, or integers and the scale of each output channel."""

    def __init__(self, values: Any, scale: Node | None) -> None:
        self.values, self.scale = values, scale

    @classmethod
    def of(cls, value: Node) -> _Weight | None:
        node, scale = value.get_node(), None
        if node.get_type_name() == "Multiply":
            converted, scale = node.input_value(0).get_node(), node.input_value(1)
            if converted.get_type_name() != "Convert":
                return None
            node = converted.input_value(0).get_node()
            values = node.get_data() if node.get_type_name() == "Constant" else None
        else:
            values = constant_of(value)
        if values is None or values.shape[2:] != (3, 3):
            return None
        return cls(values.astype(np.float32 if scale is None else np.int64), scale)

    def summed(self, row: int, column: int, largest: int) -> Node | None:
        """Weights (O, C, 2, 2) of this row and column of every 2×2 pixels; None where integers
        are larger."""
        rows = np.stack([self.values[:, :, each].sum(2) for each in ROWS[row]], 2)
        sums = np.stack([rows[..., each].sum(3) for each in ROWS[column]], 3)
        if self.scale is None:
            return ops.constant(sums)
        if np.abs(sums).max() > largest:
            return None
        integers = ops.convert(ops.constant(sums.astype(np.int8)), "f32")
        return ops.multiply(integers, self.scale)


def _elementwise_to(value: Node) -> tuple[list[Node], Node]:
    """Roundings and borders behind the first node, upwards from `value`, that is neither, and that
    node."""
    between, node = [], value.get_node()
    while node.get_type_name() in ("FakeQuantize", "Pad"):
        between.append(node)
        node = node.input_value(0).get_node()
    return between, node


def _again(node: Node, x: Node) -> Node:
    """The same rounding or border of another input."""
    others, settings = node.input_values()[1:], node.get_attributes()
    if node.get_type_name() == "Pad":
        return ops.pad(x, *others[:2], settings["pad_mode"], *others[2:])
    return ops.fake_quantize(x, *others, settings["levels"], settings["auto_broadcast"])


def _doubles(node: Node) -> bool:
    """Tell whether a node repeats each row and each column."""
    if node.get_type_name() != "Interpolate" or node.get_attributes()["mode"] != "nearest":
        return False
    before, after = (
        [int(side.get_length()) for side in shape]
        for shape in (node.get_input_partial_shape(0), node.get_output_partial_shape(0))
    )
    return len(after) == 4 and after == [*before[:2], 2 * before[2], 2 * before[3]]


def _is_plain(node: Node, between: list[Node]) -> bool:
    """Tell whether a convolution has a border of one pixel, which itself or a node before adds."""
    steps = node.get_attributes()
    borders = [[0, 0, *steps[side]] for side in ("pads_begin", "pads_end")]
    for each in between:
        if each.get_type_name() == "Pad":
            if each.get_attributes()["pad_mode"] != "constant":
                return False
            borders += [list(constant_of(each.input_value(number))) for number in (1, 2)]
    given = [border for border in borders if any(border)]
    once = list(steps["strides"]) == [1, 1] == list(steps["dilations"])
    return once and given == [[0, 0, 1, 1]] * 2


def _bias_behind(node: Node) -> tuple[Any, Node]:
    """A constant that is added to a product alone, and the node that adds it."""
    readers = [target.get_node() for target in node.output(0).get_target_inputs()]
    if len(readers) == 1 and readers[0].get_type_name() == "Add":
        product, bias = with_bias(readers[0].output(0))
        if product is not None and bias is not None and bias.size == bias.shape[1]:
            return bias, readers[0]
    return None, node
