"""Group normalization as a scale and a shift of each channel, which the quantizer applies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor, nn

from passionsr_cli.triton_kernels.kernels import FUSED
from passionsr_cli.triton_kernels.launching import BLOCK, BLOCK_CHANNELS, Normalization
from passionsr_cli.triton_kernels.layers import IntegerLayer
from passionsr_cli.triton_kernels.norm_kernels import moments_kernel, scales_kernel

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
    block_channels = min(triton.next_power_of_2(channels), BLOCK_CHANNELS)
    block_pixels = BLOCK // block_channels
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


class NormalizedConvolution(nn.Module):
    """A convolution of SiLU(norm(x)), both of which are part of its quantizer."""

    def __init__(self, norm: nn.GroupNorm, convolution: IntegerLayer) -> None:
        super().__init__()
        self.norm, self.convolution = norm, convolution

    def forward(self, x: Tensor) -> Tensor:
        image = x.permute(0, 2, 3, 1)
        result = self.convolution.product_of(image, None, normalization(self.norm, image))
        return result.permute(0, 3, 1, 2)


def fuse_last_convolutions(model: nn.Module) -> None:
    """Make the norm and the activation in front of last convolutions part of these, in place."""
    for module in list(model.modules()):
        if _ends_normalized(module):
            part: Any = module
            part.conv_out = NormalizedConvolution(part.conv_norm_out, part.conv_out)
            part.conv_norm_out = part.conv_act = nn.Identity()


def _ends_normalized(module: Any) -> bool:
    convolution = getattr(module, "conv_out", None)
    return (
        isinstance(convolution, IntegerLayer)
        and convolution.branch_down is None
        and isinstance(getattr(module, "conv_norm_out", None), nn.GroupNorm)
        and isinstance(getattr(module, "conv_act", None), nn.SiLU)
    )
