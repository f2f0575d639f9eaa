"""Triton kernels: codes of a layer's input, and the products of codes with a weight.

Codes are signed bytes, channels last. A convolution reads an image of codes whose border is already
there and whose channels are filled up to a multiple of `CHANNEL_MULTIPLE`, so that no load of its
inner loop asks where it is; a linear layer is a 1×1 convolution of an image one row high.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Sixteen bytes of the narrowest weights, which hold two codes each: the widest load there is.
CHANNEL_MULTIPLE = 32
# Products and sums round once, as up to Triton 3.9 by default; from 3.10 on only if it is said.
FUSED = {"enable_fp_fusion": True}
SQRT_HALF = tl.constexpr(0.5**0.5)
# Added to and taken from a small float32, it leaves the nearest integer, ties to even.
ROUNDING = tl.constexpr(1.5 * 2**23)


@triton.jit
def code_of(
    steps: tl.tensor, lowest: tl.tensor, highest: tl.tensor, zero_point: tl.tensor
) -> tl.tensor:
    """Codes (int8) of values in steps of a grid, limited to codes less the zero point."""
    steps = tl.minimum(tl.maximum(steps, lowest), highest)
    return ((steps + ROUNDING) - ROUNDING + zero_point).to(tl.int8)


@triton.jit
def quantize_kernel(
    x: tl.tensor,
    norm_scale: tl.tensor,
    norm_shift: tl.tensor,
    factor: tl.tensor,
    offset: tl.tensor,
    codes: tl.tensor,
    pixels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    lowest: tl.tensor,
    highest: tl.tensor,
    zero_point: tl.tensor,
    channels: tl.tensor,
    filled_channels: tl.tensor,
    border_y: tl.constexpr,
    border_x: tl.constexpr,
    normalizes: tl.constexpr,
    block_pixels: tl.constexpr,
    block_channels: tl.constexpr,
) -> None:
    """Codes of an image with its border: clamp(round(x · factor + offset) + zero_point).

    `x` (B, height, width, channels) of any floating type, `factor` and `offset` (channels,)
    float32, `codes` (B, height + 2·border_y, width + 2·border_x, filled_channels) int8, of `pixels`
    pixels an image. The border is x = 0. `lowest` and `highest` are the smallest and the largest
    code, less the zero point. If it `normalizes`, x is SiLU(x · norm_scale + norm_shift), with
    (B, channels) float32 of each. The grid is (blocks of pixels, blocks of channels, B).
    """
    pixel = tl.program_id(0) * block_pixels + tl.arange(0, block_pixels)
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    image = tl.program_id(2)
    bordered_width = width + 2 * border_x
    column = pixel % bordered_width - border_x
    row = pixel // bordered_width - border_y
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (pixel < pixels)
    source = ((image * height + row) * width + column).to(tl.int64) * channels
    known = channel < channels
    values = tl.load(
        x + source[:, None] + channel[None, :], mask=inside[:, None] & known[None, :], other=0.0
    ).to(tl.float32)
    if normalizes:
        place = image * channels + channel
        values = values * tl.load(norm_scale + place, mask=known, other=0.0)[None, :]
        values += tl.load(norm_shift + place, mask=known, other=0.0)[None, :]
        # The border is zero behind the norm.
        values = tl.where(inside[:, None], values, 0.0)
        values = values * tl.sigmoid(values)
    factors = tl.load(factor + channel, mask=known, other=0.0)
    offsets = tl.load(offset + channel, mask=known, other=0.0)
    steps = values * factors[None, :] + offsets[None, :]
    target = (image * pixels + pixel).to(tl.int64) * filled_channels
    tl.store(
        codes + target[:, None] + channel[None, :],
        code_of(steps, lowest, highest, zero_point),
        mask=(pixel < pixels)[:, None] & (channel < filled_channels)[None, :],
    )


@triton.jit
def multiply_kernel(
    codes: tl.tensor,
    weight: tl.tensor,
    weight_zero: tl.tensor,
    correction: tl.tensor,
    scale: tl.tensor,
    bias: tl.tensor,
    added: tl.tensor,
    factor: tl.tensor,
    offset: tl.tensor,
    result: tl.tensor,
    rows: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    outputs: tl.tensor,
    channels: tl.tensor,
    weight_bytes: tl.tensor,
    row_stride: tl.tensor,
    output_stride: tl.tensor,
    lowest: tl.tensor,
    highest: tl.tensor,
    zero_point: tl.tensor,
    taps_y: tl.constexpr,
    taps_x: tl.constexpr,
    stride_y: tl.constexpr,
    stride_x: tl.constexpr,
    packed: tl.constexpr,
    adds: tl.constexpr,
    gates: tl.constexpr,
    rounds: tl.constexpr,
    block_rows: tl.constexpr,
    block_outputs: tl.constexpr,
    block_channels: tl.constexpr,
) -> None:
    """Convolution of codes: (Σ code · weight + correction) · scale + bias (+ added).

    `codes` (B, height, width, channels) int8 with its border; `weight` (outputs, taps_y, taps_x,
    weight_bytes) int8, or uint8 of two codes each if `packed`, which stand for `weight_zero`
    (outputs,) int8 less. `correction` (outputs,) int32 takes the input's zero point
    off; `scale` and `bias` (outputs,) float32. `added`, if it `adds`, is (rows, outputs) of any
    floating type, rows those of (B, out_height, out_width); `result`, of any floating type, has
    strides of its own. If it `gates`, outputs are values and their gates in turn, and half as many
    columns v · GELU(g) the result. If it `rounds`, the result is the codes int8 of the layer
    behind, as in `quantize_kernel`, with a float32 of `factor` and `offset` for each column.
    """
    blocks_of_outputs = tl.cdiv(outputs, block_outputs)
    # Neighbours in time read the same rows.
    row = tl.program_id(0) // blocks_of_outputs * block_rows + tl.arange(0, block_rows)
    output = tl.program_id(0) % blocks_of_outputs * block_outputs + tl.arange(0, block_outputs)
    # Behind the last one the last one is read again, and not written.
    source_row = tl.minimum(row, rows - 1)
    column = source_row % out_width * stride_x
    line = source_row // out_width % out_height * stride_y
    image = source_row // (out_width * out_height)
    source = ((image * height + line) * width + column).to(tl.int64) * channels
    block_bytes: tl.constexpr = block_channels // 2 if packed else block_channels
    source_output = tl.minimum(output, outputs - 1)
    weight_row = source_output * (taps_y * taps_x * weight_bytes)
    channel, byte = tl.arange(0, block_channels)[None, :], tl.arange(0, block_bytes)[None, :]
    first_inputs = codes + source[:, None] + channel
    first_weights = weight + weight_row[:, None] + byte
    if packed:
        zero = tl.load(weight_zero + source_output)[:, None]
    blocks = tl.cdiv(channels, block_channels)
    total = tl.zeros((block_rows, block_outputs), tl.int32)
    for step in range(taps_y * taps_x * blocks):
        tap, block = step // blocks, step % blocks
        channel_start, byte_start = block * block_channels, block * block_bytes
        moved = (tap // taps_x * width + tap % taps_x) * channels + channel_start
        inputs = tl.load(first_inputs + moved, mask=channel < channels - channel_start, other=0)
        moved = tap * weight_bytes + byte_start
        weights = tl.load(first_weights + moved, mask=byte < weight_bytes - byte_start, other=0)
        if packed:
            # What is beyond the channels meets inputs that are zero there.
            weights = tl.interleave(weights & 15, weights >> 4).to(tl.int8) - zero
        total = tl.dot(inputs, tl.trans(weights), total, out_dtype=tl.int32)
    total += tl.load(correction + source_output)[None, :]
    values = total.to(tl.float32) * tl.load(scale + source_output)[None, :]
    values += tl.load(bias + source_output)[None, :]
    known = (row < rows)[:, None] & (output < outputs)[None, :]
    if adds:
        place = row.to(tl.int64)[:, None] * outputs + output[None, :]
        values += tl.load(added + place, mask=known, other=0.0).to(tl.float32)
    if gates:
        values, gate = tl.split(tl.reshape(values, (block_rows, block_outputs // 2, 2)))
        values *= 0.5 * gate * (1 + tl.erf(gate * SQRT_HALF))
        outputs = outputs // 2
        first_output = tl.program_id(0) % blocks_of_outputs * (block_outputs // 2)
        output = first_output + tl.arange(0, block_outputs // 2)
        known = (row < rows)[:, None] & (output < outputs)[None, :]
    target = row.to(tl.int64)[:, None] * row_stride + output.to(tl.int64)[None, :] * output_stride
    if rounds:
        known_output = output < outputs
        values = values * tl.load(factor + output, mask=known_output, other=0.0)[None, :]
        values += tl.load(offset + output, mask=known_output, other=0.0)[None, :]
        tl.store(result + target, code_of(values, lowest, highest, zero_point), mask=known)
    else:
        tl.store(result + target, values.to(result.dtype.element_ty), mask=known)
