"""Launches of the kernels on tensors: images of codes, and products of these."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from passionsr_cli.inference.triton.kernels import (
    CHANNEL_MULTIPLE,
    moments_kernel,
    multiply_kernel,
    quantize_kernel,
)

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


@dataclass(frozen=True)
class Weight:
    """A layer's weight and what is done to its sums of products, as `multiply_kernel` says."""

    codes: Tensor
    zero: Tensor
    correction: Tensor
    scale: Tensor
    bias: Tensor
    taps: tuple[int, int]

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
    pixels = codes.numel() // filled
    block_channels = min(triton.next_power_of_2(filled), BLOCK_CHANNELS)
    block_pixels = BLOCK // block_channels
    quantize_kernel[(triton.cdiv(pixels, block_pixels), triton.cdiv(filled, block_channels))](
        x,
        grid.factor if normalization is None else normalization.scale,
        grid.factor if normalization is None else normalization.shift,
        grid.factor,
        grid.offset,
        codes,
        pixels,
        height,
        width,
        float(grid.quant_min - grid.zero_point),
        float(grid.quant_max - grid.zero_point),
        float(grid.zero_point),
        channels,
        filled,
        *border,
        normalizes=normalization is not None,
        block_pixels=block_pixels,
        block_channels=block_channels,
    )
    return codes


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moments of the channels of images (B, H, W, C), in blocks of pixels.

    Counts of pixels (blocks, 1), and (B, blocks, C) each the means and the sums of squared
    deviations from these, float32.
    """
    x = x.contiguous()
    batch, height, width, channels = x.shape
    pixels = height * width
    block_channels = min(triton.next_power_of_2(channels), BLOCK_CHANNELS)
    block_pixels = BLOCK // block_channels
    blocks = triton.cdiv(pixels, block_pixels)
    means, deviations = torch.empty((2, batch, blocks, channels), device=x.device)
    moments_kernel[(blocks, triton.cdiv(channels, block_channels), batch)](
        x,
        means,
        deviations,
        pixels,
        channels,
        block_pixels=block_pixels,
        block_channels=block_channels,
    )
    starts = torch.arange(blocks, device=x.device)[:, None] * block_pixels
    return (pixels - starts).clamp_max(block_pixels).float(), means, deviations


def multiply(
    codes: Tensor,
    weight: Weight,
    stride: tuple[int, int],
    dtype: torch.dtype,
    added: Tensor | None = None,
) -> Tensor:
    """The convolution (B, H', W', O) of codes with their border, and what is added to it."""
    batch, height, width, channels = codes.shape
    out_height, out_width = (
        (side - taps) // step + 1
        for side, taps, step in zip((height, width), weight.taps, stride, strict=True)
    )
    outputs = len(weight.scale)
    rows = batch * out_height * out_width
    shape = (batch, out_height, out_width, outputs)
    result = torch.empty(shape, dtype=dtype, device=codes.device)

    def grid(block: dict[str, int]) -> tuple[int]:
        return (
            triton.cdiv(rows, block["block_rows"]) * triton.cdiv(outputs, block["block_outputs"]),
        )

    multiply_kernel[grid](
        codes,
        weight.codes,
        weight.zero,
        weight.correction,
        weight.scale,
        weight.bias,
        result if added is None else added.contiguous(),
        result,
        rows,
        out_height,
        out_width,
        height,
        width,
        outputs,
        channels,
        channels // 2 if weight.packed else channels,
        size=rows.bit_length(),
        taps_y=weight.taps[0],
        taps_x=weight.taps[1],
        stride_y=stride[0],
        stride_x=stride[1],
        packed=weight.packed,
        adds=added is not None,
    )
    return result
