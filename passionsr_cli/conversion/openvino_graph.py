"""The components of a model as OpenVINO graphs whose quantized layers run on integers.

A quantized layer becomes `FakeQuantize` on its input, int8 weights with one scale per output
channel, and the plain convolution or product: the pattern that OpenVINO's low-precision
transformations turn into integer kernels. The transformation costs nothing: the input bounds of
`FakeQuantize` are those of X, one pair per channel (δ + s·l, δ + s·u), its output bounds those of
X̃, one pair in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset13 as ops
from openvino.frontend.pytorch import ConversionExtension
from torch import Tensor, nn

from passionsr_cli.conversion.saturation import overflowing
from passionsr_cli.conversion.stored_graphs import BRANCH_SUFFIX
from passionsr_cli.conversion.torch_frontend import traced_graph
from passionsr_cli.conversion.tracing import (
    OPERATION,
    Operation,
    component_of_model,
    traced_as_operations,
)
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.products import Convolution, Product
from passionsr_cli.models.components import UNET
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.quantization.quantizer import FrozenQuantizer

# The numbers of levels for which there are integer kernels. Others are rounded once more, to 256
# levels of the same step, which changes nothing but the kernel. 255 levels before a convolution
# come out half a step off, though its kernel is of integers.
DIRECT_LEVELS = (16, 256)
MOST_LEVELS = 256

Node = Any


@dataclass(frozen=True)
class ComponentGraph:
    """A component as an OpenVINO model, for any batch size, height and width.

    `layers` are the quantized convolutions and linear layers in it by name; of these, `folded` do
    not depend on the image and became constants. `attentions` are the quantized attentions.
    `precise` says that residual streams stay float32 when all else around integers is bf16.
    `overflowing` are the layers that compute in floating point because CPUs whose sums of products
    saturate have no exact integers for them (see `saturation`).
    Inputs and outputs are those of `tracing.Component`.
    """

    model: openvino.Model
    layers: tuple[str, ...]
    folded: tuple[str, ...]
    attentions: tuple[str, ...]
    precise: bool = False
    overflowing: tuple[str, ...] = ()


def component_graph(
    model: OneStepModel, component: str, saturating: bool = False
) -> ComponentGraph:
    """Convert one component of a full-precision or a calibrated, frozen model.

    For a CPU whose sums of products are `saturating`, what could overflow them is in floating
    point; such a graph is exact on every CPU. Quantized layers lose their weights to the graph: of
    a large model there is no room for both.
    """
    traced = component_of_model(model, component)
    floating = overflowing(traced) if saturating else frozenset()

    def convert(context: Any) -> list[Any]:
        operation = traced.operations[int(context.get_values_from_const_input(1))]
        on_integers = operation.name not in floating
        node = operation_node(operation, context.get_input(0), on_integers)
        if isinstance(operation.module, FrozenLayer):
            operation.module.weight = nn.Parameter(torch.empty(0), requires_grad=False)
        return [node.output(0)]

    shape = openvino.PartialShape([-1, traced.example.shape[1], -1, -1])
    with traced_as_operations(traced) as part:
        extensions = [ConversionExtension(OPERATION, convert)]
        converted = traced_graph(part, traced.example, shape, extensions)
    # The UNet sees noise alone, and full precision has no grids whose codes could flip.
    precise = bool(traced.layers) and component != UNET
    layers = tuple(name for name in traced.layers if name in floating)
    return ComponentGraph(
        converted, traced.layers, traced.folded, traced.attentions, precise, layers
    )


def operation_node(operation: Operation, x: Node, on_integers: bool = True) -> Node:
    """A quantized layer, or the rounding of one operand of an attention, of a float32 node."""
    if operation.constant is not None:
        return ops.constant(operation.constant.numpy())
    if isinstance(operation.module, FrozenQuantizer):
        grid = operation.module.grid()
        return _round(x, grid) if on_integers else _round_in_floats(x, grid)
    return layer_node(operation.module, operation.name, x, on_integers)


def layer_node(layer: FrozenLayer, name: str, x: Node, on_integers: bool = True) -> Node:
    """A frozen convolution or linear layer applied to a float32 node; its product gets the name.

    Without `on_integers` the product of the same rounded values is one of floats.
    """
    whole, product = x, layer.product
    shift, padded = layer.channel_shift, False
    if shift is not None and isinstance(product, Convolution) and any(product.padding):
        # Zero is only zero on the grid of X, so the border must be there before it.
        border = [0, 0, *product.padding]
        x, padded = ops.pad(x, border, border, "constant", 0.0), True
    if layer.input_grid is not None:
        x = _round_channels(layer, x, layer.input_grid)
    else:
        x = _move(layer, x)
    weight = _weight_node(layer.stored_weight(), layer.weight_grid, on_integers)
    multiplied = _product(product, x, weight, padded)
    multiplied.set_friendly_name(name)
    result = multiplied
    if layer.bias is not None:
        bias = _along_channels(product, layer.bias.detach())
        result = ops.add(multiplied, ops.constant(bias))
    if layer.branch is None:
        return result
    return ops.add(result, _branch_node(product, name, whole, layer.branch))


def _product(product: Product, x: Node, weight: Node, padded: bool = False) -> Node:
    if not isinstance(product, Convolution):
        return ops.matmul(x, weight, False, True)
    pads = [0, 0] if padded else list(product.padding)
    return ops.convolution(x, weight, list(product.stride), pads, pads, list(product.dilation))


def _branch_node(product: Product, name: str, x: Node, branch: tuple[Tensor, Tensor]) -> Node:
    """L₁(L₂ X): nodes of bfloat16 run on kernels of bfloat16, whatever is around them."""
    down, up = (ops.convert(ops.constant(factor.float().numpy()), "bf16") for factor in branch)
    hidden = _product(product, ops.convert(x, "bf16"), down)
    if isinstance(product, Convolution):
        result = ops.convolution(hidden, up, [1, 1], [0, 0], [0, 0], [1, 1])
    else:
        result = ops.matmul(hidden, up, False, True)
    hidden.set_friendly_name(f"{name}{BRANCH_SUFFIX}/down")
    result.set_friendly_name(f"{name}{BRANCH_SUFFIX}/up")
    return ops.convert(result, "f32")


def _weight_node(weight: Tensor, grid: Grid | None, on_integers: bool) -> Node:
    """Float weights, or q − zero_point as int8 times a scale for each output channel."""
    if grid is None:
        return ops.constant(weight.numpy())
    shape = [-1 if grid.scheme.channel_axis == 0 else 1, *[1] * (weight.dim() - 1)]
    integers = weight - grid.zero_point.to(weight.dtype).reshape(shape)
    lowest, highest = (int(each) for each in integers.aminmax())
    if not on_integers or max(-lowest, highest) > 127:
        # No integer kernel takes asymmetric 8 bits. The grid stays what it is.
        return ops.constant((integers * grid.scale.reshape(shape)).numpy())
    real = ops.convert(ops.constant(integers.to(torch.int8).numpy()), "f32")
    return ops.multiply(real, ops.constant(grid.scale.reshape(shape).numpy()))


def _round(x: Node, grid: Grid) -> Node:
    """`FakeQuantize` between the nudged bounds of a grid of a whole tensor."""
    lower, upper = (float(bound) for bound in grid.nudged_bounds())
    return _fake_quantize(x, (np.float32(lower), np.float32(upper)), grid)


def _round_in_floats(x: Node, grid: Grid) -> Node:
    """The same values as `_round`, by arithmetic that OpenVINO does not turn into integers."""
    scale = np.float32(float(grid.scale))
    lower, upper = (
        bound - float(grid.zero_point) for bound in (grid.scheme.quant_min, grid.scheme.quant_max)
    )
    steps = ops.round(ops.divide(x, scale), "half_to_even")
    return ops.multiply(ops.clamp(steps, lower, upper), scale)


def _round_channels(layer: FrozenLayer, x: Node, grid: Grid) -> Node:
    """X̃ on its grid: the transformation inside the bounds where OpenVINO takes such, at axis 1."""
    scale, shift = layer.channel_scale, layer.channel_shift
    if not isinstance(layer.product, Convolution) or (scale is None and shift is None):
        return _round(_move(layer, x), grid)
    channels = layer.weight.shape[1]
    factor = np.ones(channels) if scale is None else scale.double().numpy()
    offset = np.zeros(channels) if shift is None else shift.double().numpy()
    shape = (1, channels, 1, 1)
    lower, upper = (
        (offset + factor * float(bound)).astype(np.float32).reshape(shape)
        for bound in grid.nudged_bounds()
    )
    return _fake_quantize(x, (lower, upper), grid)


def _fake_quantize(x: Node, input_bounds: tuple[Any, Any], grid: Grid) -> Node:
    scheme, scale = grid.scheme, float(grid.scale)
    bounds = tuple(np.float32(float(bound)) for bound in grid.nudged_bounds())
    levels = scheme.quant_max - scheme.quant_min + 1
    rounded = ops.fake_quantize(
        x, *(ops.constant(bound) for bound in (*input_bounds, *bounds)), levels
    )
    if levels in DIRECT_LEVELS:
        return rounded
    lowest = -scale * MOST_LEVELS / 2 if scheme.symmetric else float(bounds[0])
    wide = (np.float32(lowest), np.float32(lowest + (MOST_LEVELS - 1) * scale))
    return ops.fake_quantize(
        rounded, *(ops.constant(bound) for bound in (*wide, *wide)), MOST_LEVELS
    )


def _move(layer: FrozenLayer, x: Node) -> Node:
    """(X − δ) / s."""
    scale, shift = (
        None if values is None else ops.constant(_along_channels(layer.product, values))
        for values in (layer.channel_scale, layer.channel_shift)
    )
    if shift is not None:
        x = ops.subtract(x, shift)
    return x if scale is None else ops.divide(x, scale)


def _along_channels(product: Product, values: Tensor) -> Any:
    shape = (1, -1, 1, 1) if isinstance(product, Convolution) else (-1,)
    return values.float().numpy().reshape(shape)
