"""Group normalization as a scale and a shift of each channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor, nn

from passionsr_cli.triton_kernels.kernels import FUSED
from passionsr_cli.triton_kernels.launching import BLOCK, BLOCK_CHANNELS, Normalization
from passionsr_cli.triton_kernels.norm_kernels import moments_kernel, scale_kernel, scales_kernel

# Parts of an image that have moments of their own: enough for all of a GPU's units.
MOST_PARTS = 512


@dataclass(frozen=True)
class Moments:
    """Moments of the channels of images: means, and sums of squared deviations from them,
    (B, parts, C) float32 each, of parts of so many pixels."""

    means: Tensor
    deviations: Tensor
    pixels: int
    part: int


def moments(image: Tensor) -> Moments:
    """Moments of the channels of images (B, H, W, C) of any floating type."""
    image = image.contiguous()
    batch, height, width, channels = image.shape
    pixels = height * width
    block_pixels, block_channels = _block(channels)
    part = block_pixels * triton.cdiv(triton.cdiv(pixels, block_pixels), MOST_PARTS)
    parts = triton.cdiv(pixels, part)
    means, deviations = torch.empty((2, batch, parts, channels), device=image.device)
    moments_kernel[(parts, triton.cdiv(channels, block_channels), batch)](
        image,
        means,
        deviations,
        pixels,
        channels,
        part,
        block_pixels=block_pixels,
        block_channels=block_channels,
        **FUSED,
    )
    return Moments(means, deviations, pixels, part)


def normalization(norm: nn.GroupNorm, image: Tensor, moved: Tensor | None = None) -> Normalization:
    """A group normalization of an image (B, H, W, C) that still lacks `moved` (B, C)."""
    found = moments(image)
    batch, parts, channels = found.means.shape
    width = channels // norm.num_groups
    scale, shift = torch.empty((2, batch, channels), device=image.device)
    block_channels = triton.next_power_of_2(width)
    scales_kernel[(norm.num_groups, batch)](
        found.means,
        found.deviations,
        scale if moved is None else moved.contiguous(),
        norm.weight,
        norm.bias,
        scale,
        shift,
        found.pixels,
        found.part,
        parts,
        channels,
        width,
        norm.eps,
        moves=moved is not None,
        block_parts=max(1, min(triton.next_power_of_2(parts), BLOCK // block_channels)),
        block_channels=block_channels,
        **FUSED,
    )
    return Normalization(scale, shift)


def normalized(norm: nn.GroupNorm, image: Tensor) -> Tensor:
    """A group normalization's result, float32, for an image (B, H, W, C) of any floating type."""
    image = image.contiguous()
    found = normalization(norm, image)
    batch, height, width, channels = image.shape
    pixels = height * width
    result = torch.empty_like(image, dtype=torch.float32)
    block_pixels, block_channels = _block(channels)
    programs = (triton.cdiv(pixels, block_pixels), triton.cdiv(channels, block_channels), batch)
    scale_kernel[programs](
        image,
        found.scale,
        found.shift,
        result,
        pixels,
        channels,
        block_pixels=block_pixels,
        block_channels=block_channels,
        **FUSED,
    )
    return result


def _block(channels: int) -> tuple[int, int]:
    """Pixels and channels that one program looks at."""
    block_channels = min(triton.next_power_of_2(channels), BLOCK_CHANNELS)
    return BLOCK // block_channels, block_channels
