"""Frozen layers on integer kernels: modules that take their place in a model of torch's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.products import Convolution
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.triton_kernels.kernels import CHANNEL_MULTIPLE
from passionsr_cli.triton_kernels.launching import (
    InputGrid,
    Normalization,
    Weight,
    multiply,
    multiply_to_codes,
    quantize,
)
from passionsr_cli.triton_kernels.packing import integer_weight, pack_weight

LARGEST_WEIGHT = 127
# How far a code may be from its zero point.
LARGEST_INPUT = 255
LARGEST_SUM = 2**31 - 1
# Tensors of an `IntegerLayer` with a row for each of its outputs.
PER_OUTPUT = ("weight", "weight_zero", "correction", "scale", "bias", "branch_up")


def obstacle(layer: FrozenLayer) -> str:
    """The reason why there is no integer kernel for a layer; empty if there is one."""
    if layer.weight_grid is None:
        return "its weight is in floating point"
    if layer.input_grid is None:
        return "its input is in floating point"
    if isinstance(layer.product, Convolution) and layer.product.dilation != (1, 1):
        return "no integer kernel takes dilated convolutions"
    if integer_weight(layer).abs().max() > LARGEST_WEIGHT:
        return "no integer kernel takes asymmetric 8-bit weights"
    if layer.weight[0].numel() * LARGEST_INPUT * LARGEST_WEIGHT > LARGEST_SUM:
        return "its sums of products may exceed 32 bits"
    return ""


class IntegerLayer(nn.Module):
    """Convolution or linear layer on integer kernels; a branch beside it runs in bfloat16.

    Takes and gives what the `FrozenLayer` does that it is made of. The result has the type that
    autocast says, else float32.
    """

    weight: Tensor
    weight_zero: Tensor
    correction: Tensor
    scale: Tensor
    bias: Tensor
    factor: Tensor
    offset: Tensor
    branch_down: Tensor | None
    branch_up: Tensor | None

    def __init__(self, layer: FrozenLayer) -> None:
        super().__init__()
        grid, weight_grid = layer.input_grid, layer.weight_grid
        assert grid is not None
        assert weight_grid is not None
        outputs, channels = layer.weight.shape[:2]
        self.product = layer.product
        self.gated = False
        self.limits = signed_limits(grid)
        self.border, self.stride, self.taps = _geometry(layer)
        weight, zero = pack_weight(layer, CHANNEL_MULTIPLE)
        sums = integer_weight(layer).flatten(1).sum(1)
        scale = grid.scale.double() * weight_grid.scale.double()
        factor = (1 / grid.scale.double()).expand(channels)
        if layer.channel_scale is not None:
            factor = factor / layer.channel_scale.double()
        shift = factor.new_zeros(channels) if layer.channel_shift is None else layer.channel_shift
        bias = factor.new_zeros(outputs) if layer.bias is None else layer.bias.detach()
        tensors = {
            "weight": weight,
            "weight_zero": zero,
            "correction": (-self.limits[0] * sums).int(),
            "scale": scale.expand(outputs).float(),
            "bias": bias.float(),
            "factor": factor.float(),
            "offset": (-shift.double() * factor).float(),
        }
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.contiguous())
        self.register_buffer("branch_down", layer.branch_down)
        self.register_buffer("branch_up", layer.branch_up)

    def gate(self) -> None:
        """Make v · GELU(g) its result, where (v, g) are the halves of a linear layer's result."""
        # Both of a channel are in one block if they are neighbours.
        order = torch.arange(len(self.scale), device=self.scale.device).reshape(2, -1).t().flatten()
        for name in PER_OUTPUT:
            tensor = getattr(self, name)
            setattr(self, name, None if tensor is None else tensor[order])
        self.gated = True

    def forward(self, x: Tensor) -> Tensor:
        result = self.product_of(self._as_image(x), self._branch(x))
        if isinstance(self.product, Convolution):
            return result.permute(0, 3, 1, 2)
        return result.reshape(*x.shape[:-1], -1)

    def codes_of(self, x: Tensor, grid: InputGrid, transposed: bool = False) -> Tensor:
        """A linear layer's result for (…, C) as codes (N, O) of the next grid, or (O, N)."""
        codes = quantize(self._as_image(x), self.grid, self.border)
        return multiply_to_codes(codes, self._weight(), grid, self._branch(x), transposed)

    def product_of_codes(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """A linear layer's result (N, O) for codes (N, C') on its grid, without the branch."""
        return multiply(codes[None, None], self._weight(), self.stride, dtype)[0, 0]

    def _branch(self, x: Tensor) -> Tensor | None:
        if self.branch_down is None or self.branch_up is None:
            return None
        return self._as_image(self.product.branch(x, self.branch_down, self.branch_up))

    def product_of(
        self, image: Tensor, added: Tensor | None, normalization: Normalization | None = None
    ) -> Tensor:
        """The result (B, H', W', O) for an image (B, H, W, C), or for what a normalization makes
        of it, with something of the result's shape added; without the branch."""
        codes = quantize(image, self.grid, self.border, normalization)
        return multiply(codes, self._weight(), self.stride, result_type(image), added)

    def _as_image(self, x: Tensor) -> Tensor:
        """(B, C, H, W) as (B, H, W, C), and (…, C) as an image one row high."""
        if isinstance(self.product, Convolution):
            return x.permute(0, 2, 3, 1)
        return x.reshape(1, 1, -1, x.shape[-1])

    @property
    def grid(self) -> InputGrid:
        """The grid of its input."""
        return InputGrid(self.factor, self.offset, *self.limits)

    def _weight(self) -> Weight:
        tensors = (self.weight, self.weight_zero, self.correction, self.scale, self.bias)
        return Weight(*tensors, self.taps, self.gated)


def _geometry(layer: FrozenLayer) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(border, stride, taps) of the convolution that a layer is."""
    if not isinstance(layer.product, Convolution):
        return (0, 0), (1, 1), (1, 1)
    vertical, horizontal = layer.weight.shape[2:]
    return layer.product.padding, layer.product.stride, (vertical, horizontal)


def signed_limits(grid: Grid) -> tuple[int, int, int]:
    """(zero point, smallest, largest) of a grid's codes, moved down into a signed byte."""
    moved = 0 if grid.scheme.symmetric else 1 << (grid.scheme.num_bits - 1)
    limits = (int(grid.zero_point), grid.scheme.quant_min, grid.scheme.quant_max)
    zero_point, lowest, highest = (limit - moved for limit in limits)
    return zero_point, lowest, highest


def result_type(x: Tensor) -> torch.dtype:
    """The type that autocast says for a layer's result on the device of `x`, else float32."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
