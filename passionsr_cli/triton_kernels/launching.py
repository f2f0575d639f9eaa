"""Launches of the kernels on tensors: images of codes, and products of these."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from passionsr_cli.triton_kernels.kernels import (
    CHANNEL_MULTIPLE,
    FUSED,
    multiply_kernel,
    quantize_kernel,
)
from passionsr_cli.triton_kernels.tuning import Blocks, launch_fastest, products_of

# Values that one program of the quantizer holds.
BLOCK, BLOCK_CHANNELS = 4096, 128


@dataclass(frozen=True)
class InputGrid:
    """A layer's input as signed bytes: X̃ = (code − zero_point) · scale.

    `factor` and `offset` (C,) float32 take X to X̃ / scale.
    """

    factor: Tensor
    offset: Tensor
    zero_point: int
    quant_min: int
    quant_max: int

    @property
    def limits(self) -> tuple[float, float, float]:
        """See `limits_of_steps`."""
        return limits_of_steps(self.zero_point, self.quant_min, self.quant_max)


def limits_of_steps(zero_point: int, quant_min: int, quant_max: int) -> tuple[float, float, float]:
    """(smallest, largest) code less the zero point, and that, as the kernels take them."""
    return float(quant_min - zero_point), float(quant_max - zero_point), float(zero_point)


@dataclass(frozen=True)
class Weight:
    """A layer's weight and what is done to its sums of products, as `multiply_kernel` says.

    If `gated`, its rows are those of values and of their gates in turn.
    """

    codes: Tensor
    zero: Tensor
    correction: Tensor
    scale: Tensor
    bias: Tensor
    taps: tuple[int, int]
    gated: bool = False

    @property
    def columns(self) -> int:
        """Number of channels that come out."""
        return len(self.scale) // (2 if self.gated else 1)

    @property
    def packed(self) -> bool:
        """True if a byte holds two codes."""
        return self.codes.dtype == torch.uint8


@dataclass(frozen=True)
class Normalization:
    """Scale and shift of a group normalization, (B, C) float32 each; SiLU comes behind them."""

    scale: Tensor
    shift: Tensor


def quantize(
    x: Tensor,
    grid: InputGrid,
    border: tuple[int, int],
    normalization: Normalization | None = None,
) -> Tensor:
    """Codes (B, H + 2·border, W + 2·border, C') int8 of an image (B, H, W, C), or of what a
    normalization makes of it.

    C' is C filled up to the multiple that the products need.
    """
    x = x.contiguous()
    batch, height, width, channels = x.shape
    filled = channels + -channels % CHANNEL_MULTIPLE
    shape = (batch, height + 2 * border[0], width + 2 * border[1], filled)
    codes = torch.empty(shape, dtype=torch.int8, device=x.device)
    pixels = shape[1] * shape[2]
    block_channels = min(triton.next_power_of_2(filled), BLOCK_CHANNELS)
    block_pixels = BLOCK // block_channels
    programs = (triton.cdiv(pixels, block_pixels), triton.cdiv(filled, block_channels), batch)
    quantize_kernel[programs](
        x,
        grid.factor if normalization is None else normalization.scale,
        grid.factor if normalization is None else normalization.shift,
        grid.factor,
        grid.offset,
        codes,
        pixels,
        height,
        width,
        *grid.limits,
        channels,
        filled,
        *border,
        normalizes=normalization is not None,
        block_pixels=block_pixels,
        block_channels=block_channels,
        **FUSED,
    )
    return codes


def multiply(
    codes: Tensor,
    weight: Weight,
    stride: tuple[int, int],
    dtype: torch.dtype,
    added: Tensor | None = None,
) -> Tensor:
    """The convolution (B, H', W', O) of codes with their border, and what is added to it."""
    shape = _output_shape(codes, weight, stride)
    result = torch.empty(shape, dtype=dtype, device=codes.device)
    _multiply(codes, weight, stride, result, (shape[3], 1), added)
    return result


def multiply_to_codes(
    codes: Tensor, weight: Weight, grid: InputGrid, added: Tensor | None, transposed: bool
) -> Tensor:
    """The linear layer of codes (1, 1, N, C) as codes (N, O') on the grid of what is behind it, or
    (O, N) if `transposed`.

    O' is O filled up to the multiple that the products need, by whatever was in memory.
    """
    rows, outputs = codes.shape[2], weight.columns
    filled = outputs + -outputs % CHANNEL_MULTIPLE
    shape, strides = ((outputs, rows), (1, rows)) if transposed else ((rows, filled), (filled, 1))
    result = torch.empty(shape, dtype=torch.int8, device=codes.device)
    _multiply(codes, weight, (1, 1), result, strides, added, grid)
    return result


def _output_shape(codes: Tensor, weight: Weight, stride: tuple[int, int]) -> tuple[int, ...]:
    batch, height, width, _ = codes.shape
    sides = (
        (side - taps) // step + 1
        for side, taps, step in zip((height, width), weight.taps, stride, strict=True)
    )
    return (batch, *sides, weight.columns)


def _multiply(
    codes: Tensor,
    weight: Weight,
    stride: tuple[int, int],
    result: Tensor,
    strides: tuple[int, int],
    added: Tensor | None,
    grid: InputGrid | None = None,
) -> None:
    """Fill a result with these strides of rows and outputs, with codes if there is a grid."""
    _, height, width, channels = codes.shape
    batch, out_height, out_width, _ = _output_shape(codes, weight, stride)
    rows, outputs = batch * out_height * out_width, len(weight.scale)

    def launch(blocks: Blocks) -> None:
        programs = triton.cdiv(rows, blocks.rows) * triton.cdiv(outputs, blocks.columns)
        multiply_kernel[(programs,)](
            codes,
            weight.codes,
            weight.zero,
            weight.correction,
            weight.scale,
            weight.bias,
            result if added is None else added.contiguous(),
            weight.scale if grid is None else grid.factor,
            weight.bias if grid is None else grid.offset,
            result,
            rows,
            out_height,
            out_width,
            height,
            width,
            outputs,
            channels,
            channels // 2 if weight.packed else channels,
            *strides,
            *((0.0, 0.0, 0.0) if grid is None else grid.limits),
            taps_y=weight.taps[0],
            taps_x=weight.taps[1],
            stride_y=stride[0],
            stride_x=stride[1],
            packed=weight.packed,
            adds=added is not None,
            gates=weight.gated,
            rounds=grid is not None,
            block_rows=blocks.rows,
            block_outputs=blocks.columns,
            block_channels=blocks.depth,
            num_warps=blocks.warps,
            num_stages=blocks.stages,
            **FUSED,
        )

    # One choice suits about so many rows.
    kind = (weight.packed, weight.gated, grid is not None)
    case = (outputs, channels, *weight.taps, *kind, rows.bit_length())
    launch_fastest("multiply", case, products_of(rows), codes.device, launch)
