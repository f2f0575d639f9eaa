"""Products that do not fit the 16 bits in which CPUs without VNNI or AMX sum them.

Such CPUs multiply unsigned by signed 8-bit integers and add two neighbours in one instruction,
whose result saturates at 16 bits (vpmaddubsw): 255·127 + 255·127 becomes 32767, and nobody is told.
What could come to that is computed in floating point instead. Splitting a weight into two that fit
is as exact, but as slow for convolutions and half as fast for linear layers.
"""

from __future__ import annotations

from passionsr_cli.conversion.tracing import Component
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.quantization.quantizer import FrozenQuantizer

LARGEST_SUM = 2**15 - 1
# What is added to signed integers to make them unsigned.
SIGNED_OFFSET = 128


def overflowing(component: Component) -> frozenset[str]:
    """Names of the operations whose products can exceed 16 bits when two of them are summed.

    Constants were multiplied before.
    """
    modules = {operation.name: operation.module for operation in component.operations}
    layers = [
        operation.name
        for operation in component.operations
        if operation.constant is None
        and isinstance(operation.module, FrozenLayer)
        and overflows(operation.module)
    ]
    operands = []
    for attention in component.attentions:
        for pair in (("query", "key"), ("probability", "value")):
            names = [f"{attention}.processor.{operand}" for operand in pair]
            first, second = (_grid(modules[name]) for name in names)
            if _exceeds(first, _largest_magnitude(second)):
                operands += names
    return frozenset([*layers, *operands])


def overflows(layer: FrozenLayer) -> bool:
    """Tell whether a layer's products can exceed 16 bits when two of them are summed."""
    grid = layer.weight_grid
    if layer.input_grid is None or grid is None:
        return False
    shape = [-1 if grid.scheme.channel_axis == 0 else 1, *[1] * (layer.weight.dim() - 1)]
    integers = layer.stored_weight().float() - grid.zero_point.reshape(shape)
    return _exceeds(layer.input_grid, float(integers.abs().max()))


def _exceeds(grid: Grid, largest_magnitude: float) -> bool:
    return 2 * _largest_unsigned(grid) * largest_magnitude > LARGEST_SUM


def _largest_unsigned(grid: Grid) -> float:
    """The largest integer a kernel may see: where values are negative, it may take them as signed
    and move them up."""
    largest = grid.scheme.quant_max - float(grid.zero_point)
    return max(grid.scheme.quant_max, largest + SIGNED_OFFSET) if _has_negative(grid) else largest


def _has_negative(grid: Grid) -> bool:
    return float(grid.zero_point) > grid.scheme.quant_min


def _largest_magnitude(grid: Grid) -> float:
    zero_point = float(grid.zero_point)
    return max(zero_point - grid.scheme.quant_min, grid.scheme.quant_max - zero_point)


def _grid(module: FrozenLayer | FrozenQuantizer) -> Grid:
    assert isinstance(module, FrozenQuantizer)
    return module.grid()
