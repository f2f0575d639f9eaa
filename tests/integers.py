"""Quantized layers of all kinds, what they are by definition, and what they must have run on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.layers.products import Convolution
from passionsr_cli.quantization.schemes import LayerPlan, Scheme, State

BITS = (2, 3, 4, 6, 7, 8)
# No integer kernel takes asymmetric weights of 8 bits.
WEIGHTS = [*((bits, False) for bits in BITS[:-1]), *((bits, True) for bits in BITS)]


def on_integers_as_far_as_exact(ran: KernelReport) -> bool:
    """Whether integer kernels computed every layer, but what overflows on a CPU that saturates.

    There OpenVINO's older kernels also lose the names of some layers.
    """
    # Kernels of a GPU are tested where OpenVINO is not installed, too.
    from passionsr_cli.graphs.arithmetic import products_saturate
    from passionsr_cli.inference.openvino_executor import OVERFLOWS, UNSAID

    reasons = {how for _, how in ran.floating}
    return ran.on_integers or (products_saturate() and reasons <= {OVERFLOWS, UNSAID})


def random_norm(groups: int, channels: int) -> nn.GroupNorm:
    """A group normalization that moves and scales, and does not learn."""
    norm = nn.GroupNorm(groups, channels, eps=1e-3).requires_grad_(False)
    norm.weight.normal_()
    norm.bias.normal_()
    return norm


def layers_of_all_kinds(
    weight: Scheme, activation: Scheme
) -> list[tuple[LearningLayer, tuple[int, ...]]]:
    """Layers and their inputs' shapes: odd ones, and ones that fill the widest instructions."""
    plain = LayerPlan(weight, activation)
    scaled = LayerPlan(weight, activation, channel_scale=True)
    moved = LayerPlan(weight, activation, channel_scale=True, channel_shift=True)
    return [
        (LearningLayer(nn.Conv2d(5, 6, 3, padding=1), scaled), (2, 5, 9, 8)),
        (LearningLayer(nn.Conv2d(64, 40, 3, padding=1), plain), (1, 64, 17, 15)),
        (LearningLayer(nn.Conv2d(5, 6, 3, stride=2, padding=1), moved), (2, 5, 9, 8)),
        (LearningLayer(nn.Conv2d(32, 48, 3, stride=2, padding=1), scaled), (1, 32, 16, 19)),
        (LearningLayer(nn.Conv2d(7, 6, 1), plain), (2, 7, 9, 5)),
        (LearningLayer(nn.Conv2d(96, 64, 1), moved), (1, 96, 16, 16)),
        (LearningLayer(nn.Linear(5, 6, bias=False), moved), (2, 7, 5)),
        (LearningLayer(nn.Linear(96, 160), scaled), (1, 128, 96)),
    ]


def frozen(layer: LearningLayer, shape: tuple[int, ...]) -> FrozenLayer:
    """The layer with bounds of a random input, and scales and shifts as learning leaves them."""
    if layer.transform is not None:
        layer.transform.log_scale.data.normal_(std=0.3)
        if layer.transform.shift_ratio is not None:
            layer.transform.shift_ratio.data.normal_(std=0.3)
    layer.state = State.OBSERVING
    layer(torch.randn(shape))
    layer.start_bounds()
    return layer.freeze()


def input_on_every_level(layer: FrozenLayer, shape: tuple[int, ...]) -> Tensor:
    """Values on every level and beyond both ends, none of them midway between two levels."""
    grid, scale, shift = _grid_of_input(layer)
    lowest, highest = grid.scheme.quant_min - 2, grid.scheme.quant_max + 3
    codes = torch.randint(lowest, highest, shape) + (torch.rand(shape) - 0.5) * 0.6
    return (shift + scale * (codes - grid.zero_point) * grid.scale).float()


def reference(layer: FrozenLayer, x: Tensor) -> Tensor:
    """The layer as float64 computes it from its grids."""
    grid, scale, shift = _grid_of_input(layer)
    product = layer.product
    padding = product.padding if isinstance(product, Convolution) else (0, 0)
    x = x.double()
    if layer.channel_shift is not None and any(padding):
        x, padding = F.pad(x, (padding[1], padding[1], padding[0], padding[0])), (0, 0)
    codes = torch.round((x - shift) / scale / grid.scale) + grid.zero_point
    codes = codes.clamp(grid.scheme.quant_min, grid.scheme.quant_max) - grid.zero_point
    assert layer.weight_grid is not None
    along = (-1, *[1] * (layer.weight.dim() - 1))
    weight = layer.stored_weight() - layer.weight_grid.zero_point.double().reshape(along)
    bias = None if layer.bias is None else layer.bias.double()
    values, weight = codes * grid.scale, weight * layer.weight_grid.scale.double().reshape(along)
    if isinstance(product, Convolution):
        return F.conv2d(values, weight, bias, product.stride, padding)
    return F.linear(values, weight, bias)


def _grid_of_input(layer: FrozenLayer) -> tuple:  # type: ignore[type-arg]
    """The grid, and scale and shift of each channel as they multiply and move an input."""
    assert layer.input_grid is not None
    shape = (1, -1, 1, 1) if isinstance(layer.product, Convolution) else (-1,)
    scale, shift = (
        torch.tensor(neutral) if values is None else values.double().reshape(shape)
        for values, neutral in ((layer.channel_scale, 1.0), (layer.channel_shift, 0.0))
    )
    return layer.input_grid, scale, shift
