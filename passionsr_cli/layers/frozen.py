"""Frozen layers: all that is left of calibrated ones, as they run."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from passionsr_cli.layers.attention import QuantizedAttention
from passionsr_cli.layers.products import Product, QuantizedLayer
from passionsr_cli.quantization.affine import Grid, dequantize, quantize
from passionsr_cli.quantization.quantizer import FrozenQuantizer, frozen_quantizer_on, grid_of
from passionsr_cli.quantization.schemes import OPERANDS


class FrozenLayer(QuantizedLayer):
    """Convolution or linear layer on fixed grids: what executors run and checkpoints hold.

    `weight` is s ⊙ W, made of integers (int16) where there is a `weight_grid`; `bias` contains
    W δ; scale and shift have the split folded in; None is the identity. `branch` is (down, up) in
    bfloat16, shaped like weights: X runs through both, and what they make is added.
    """

    channel_scale: Tensor | None
    channel_shift: Tensor | None
    branch_down: Tensor | None
    branch_up: Tensor | None

    def __init__(
        self,
        product: Product,
        weight: Tensor,
        weight_grid: Grid | None = None,
        bias: Tensor | None = None,
        channel_scale: Tensor | None = None,
        channel_shift: Tensor | None = None,
        input_grid: Grid | None = None,
        branch: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(product)
        real = weight if weight_grid is None else dequantize(weight, weight_grid)
        self.weight = nn.Parameter(real, requires_grad=False)
        self.weight_quantizer = frozen_quantizer_on(weight_grid)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.register_buffer("channel_scale", channel_scale)
        self.register_buffer("channel_shift", channel_shift)
        self.input_quantizer = frozen_quantizer_on(input_grid)
        down, up = branch or (None, None)
        self.register_buffer("branch_down", down)
        self.register_buffer("branch_up", up)

    @property
    def weight_grid(self) -> Grid | None:
        return grid_of(self.weight_quantizer)

    @property
    def input_grid(self) -> Grid | None:
        return grid_of(self.input_quantizer)

    @property
    def branch(self) -> tuple[Tensor, Tensor] | None:
        if self.branch_down is None or self.branch_up is None:
            return None
        return self.branch_down, self.branch_up

    def stored_weight(self) -> Tensor:
        """The weight's integers (int16), or s ⊙ W itself where it has no grid."""
        grid = self.weight_grid
        return self.weight if grid is None else quantize(self.weight, grid)

    def forward(self, x: Tensor) -> Tensor:
        # Zero is only zero on the grid of X; with a shift the border must be there before it.
        padded = self.channel_shift is not None
        values = self.rounded_input(self.product.pad(x) if padded else x)[1]
        result = self.product(values, self.weight, self.bias, padded)
        branch = self.branch
        return result if branch is None else result + self.product.branch(x, *branch).float()

    def rounded_input(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(X̃, X̃ rounded to its grid)."""
        moved = self.product.move(x, self.channel_scale, self.channel_shift)
        return moved, moved if self.input_quantizer is None else self.input_quantizer(moved)

    def nudged_bounds(self) -> dict[str, tuple[float, float]]:
        """The smallest and largest representable X̃, for people to read."""
        grid = self.input_grid
        return {} if grid is None else {"input": _numbers(grid)}


class FrozenAttention(QuantizedAttention):
    """Attention on fixed grids: the scale of each head channel, and the grids of `OPERANDS`."""

    channel_scale: Tensor | None

    def __init__(self, heads: int, channel_scale: Tensor | None, grids: Mapping[str, Grid]) -> None:
        super().__init__(heads)
        self.register_buffer("channel_scale", channel_scale)
        for name in OPERANDS:
            self.add_module(name, FrozenQuantizer(grids[name]))

    def quantizers(self) -> dict[str, FrozenQuantizer]:
        """The quantizer of each operand, by its name."""
        return {
            name: module
            for name, module in self.named_children()
            if isinstance(module, FrozenQuantizer)
        }

    @property
    def grids(self) -> dict[str, Grid]:
        return {name: quantizer.grid() for name, quantizer in self.quantizers().items()}

    def products(self, query: Tensor, key: Tensor, value: Tensor, factor: float) -> Tensor:
        return self.mix(query, key, value, factor, self.channel_scale, self._round)

    def _round(self, name: str, x: Tensor) -> Tensor:
        rounded: Tensor = self.get_submodule(name)(x)
        return rounded

    def nudged_bounds(self) -> dict[str, tuple[float, float]]:
        """The smallest and largest representable values of each operand, for people to read."""
        return {name: _numbers(grid) for name, grid in self.grids.items()}


def _numbers(grid: Grid) -> tuple[float, float]:
    lower, upper = grid.nudged_bounds()
    return float(lower), float(upper)
