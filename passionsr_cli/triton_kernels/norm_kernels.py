"""Triton kernels of group normalization: what of an image's values, and then of a group's."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def moments_kernel(
    x: tl.tensor,
    means: tl.tensor,
    deviations: tl.tensor,
    pixels: tl.tensor,
    channels: tl.tensor,
    part: tl.tensor,
    block_pixels: tl.constexpr,
    block_channels: tl.constexpr,
) -> None:
    """Mean, and sum of squared deviations from it, of each channel in each part of an image.

    `x` (B, pixels, channels) of any floating type; a part has so many pixels, a multiple of a
    block's, the last one what is left. `means` and `deviations` (B, parts, channels) float32. The
    grid is (parts, blocks of channels, B). Blocks are put together as in Chan, Golub and LeVeque
    1983, equation 2.1.
    """
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    image = tl.program_id(2)
    first = tl.program_id(0) * part
    last = tl.minimum(first + part, pixels)
    mean = tl.zeros((block_channels,), tl.float32)
    deviation = tl.zeros((block_channels,), tl.float32)
    for start in range(first, last, block_pixels):
        pixel = start + tl.arange(0, block_pixels)
        known = (pixel < last)[:, None] & (channel < channels)[None, :]
        source = (pixel + image * pixels).to(tl.int64)[:, None] * channels + channel[None, :]
        values = tl.load(x + source, mask=known, other=0.0).to(tl.float32)
        count = tl.minimum(last - start, block_pixels).to(tl.float32)
        seen = (start - first).to(tl.float32)
        block_mean = tl.sum(values, 0) / count
        away = tl.where(known, values - block_mean[None, :], 0.0)
        apart = block_mean - mean
        mean += apart * (count / (seen + count))
        deviation += tl.sum(away * away, 0) + apart * apart * (seen * count / (seen + count))
    target = (image * tl.num_programs(0) + tl.program_id(0)) * channels + channel
    tl.store(means + target, mean, mask=channel < channels)
    tl.store(deviations + target, deviation, mask=channel < channels)


@triton.jit
def pixels_of(row: tl.tensor, part: tl.tensor, pixels: tl.tensor) -> tl.tensor:
    """Count of the pixels of each part (rows, 1), float32."""
    return tl.minimum(pixels - row * part, part).to(tl.float32)[:, None]


@triton.jit
def scales_kernel(
    means: tl.tensor,
    deviations: tl.tensor,
    moved: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    scale: tl.tensor,
    shift: tl.tensor,
    pixels: tl.tensor,
    part: tl.tensor,
    parts: tl.tensor,
    channels: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    moves: tl.constexpr,
    block_parts: tl.constexpr,
    block_channels: tl.constexpr,
) -> None:
    """Scale and shift of each channel, from the moments of its group's `width` channels.

    `means`, `deviations`, `pixels` and `part` are those of `moments_kernel`; `moved` (B, channels)
    of any floating type is added to the image first, if it `moves`; `weight` and `bias` (channels,)
    are the normalization's. `scale` and `shift` (B, channels) float32. The grid is (groups, B).
    """
    inner = tl.arange(0, block_channels)
    channel, known_channel = tl.program_id(0) * width + inner, inner < width
    image = tl.program_id(1)
    place = image * channels + channel
    added = tl.zeros((block_channels,), tl.float32)
    if moves:
        added += tl.load(moved + place, mask=known_channel, other=0.0).to(tl.float32)
    size = pixels.to(tl.float32) * width
    first = (image * parts * channels + channel)[None, :]
    sums = tl.zeros((block_parts, block_channels), tl.float32)
    for start in range(0, parts, block_parts):
        row = start + tl.arange(0, block_parts)
        source = first + row[:, None] * channels
        known = (row < parts)[:, None] & known_channel[None, :]
        mean = tl.load(means + source, mask=known, other=0.0) + added[None, :]
        sums += tl.where(known, mean * pixels_of(row, part, pixels), 0.0)
    group_mean = tl.sum(tl.sum(sums, 0), 0) / size
    sums = tl.zeros((block_parts, block_channels), tl.float32)
    for start in range(0, parts, block_parts):
        row = start + tl.arange(0, block_parts)
        source = first + row[:, None] * channels
        known = (row < parts)[:, None] & known_channel[None, :]
        apart = tl.load(means + source, mask=known, other=0.0) + added[None, :] - group_mean
        deviation = tl.load(deviations + source, mask=known, other=0.0)
        deviation += pixels_of(row, part, pixels) * apart * apart
        sums += tl.where(known, deviation, 0.0)
    variance = tl.sum(tl.sum(sums, 0), 0) / size
    factor = tl.load(weight + channel, mask=known_channel, other=0.0).to(tl.float32)
    factor *= tl.rsqrt(variance + eps)
    start_value = tl.load(bias + channel, mask=known_channel, other=0.0).to(tl.float32)
    tl.store(scale + place, factor, mask=known_channel)
    tl.store(shift + place, start_value + (added - group_mean) * factor, mask=known_channel)


@triton.jit
def scale_kernel(
    x: tl.tensor,
    scale: tl.tensor,
    shift: tl.tensor,
    result: tl.tensor,
    pixels: tl.tensor,
    channels: tl.tensor,
    block_pixels: tl.constexpr,
    block_channels: tl.constexpr,
) -> None:
    """x · scale + shift, for `x` and `result` (B, pixels, channels) of any floating type.

    `scale` and `shift` are those of `scales_kernel`. The grid is (blocks of pixels, blocks of
    channels, B).
    """
    pixel = tl.program_id(0) * block_pixels + tl.arange(0, block_pixels)
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    image, known_channel = tl.program_id(2), channel < channels
    known = (pixel < pixels)[:, None] & known_channel[None, :]
    place = (pixel + image * pixels).to(tl.int64)[:, None] * channels + channel[None, :]
    factor = tl.load(scale + image * channels + channel, mask=known_channel, other=0.0)
    added = tl.load(shift + image * channels + channel, mask=known_channel, other=0.0)
    values = tl.load(x + place, mask=known, other=0.0).to(tl.float32)
    values = values * factor[None, :] + added[None, :]
    tl.store(result + place, values.to(result.dtype.element_ty), mask=known)
