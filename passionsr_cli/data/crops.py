"""Random crops of photographs and their degraded partners."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from passionsr_cli.config import DegradationSettings, Range
from passionsr_cli.data.degradation import KERNEL_RADIUS_PX, degrade
from passionsr_cli.errors import ImageError


class Crop(NamedTuple):
    """A photograph's crop `hr` (3, c, c), its low-resolution partner `lr` (3, c/f, c/f), and
    `crisp`, the crop before anything was made softer, all in [0, 1]."""

    hr: Tensor
    lr: Tensor
    crisp: Tensor


def degraded_crop(
    photograph: Tensor,
    source: object,
    crop_px: int,
    factor: int,
    degradation: DegradationSettings,
    generator: Generator,
    softness_px: Range = (0.0, 0.0),
) -> Crop:
    """A random crop of a uint8 photograph (3, H, W) and its LR partner.

    The crop is turned and mirrored at random, and both partners are softer by a Gaussian of a
    random σ in `softness_px`. Where the photograph is large enough, blur at the crop's border sees
    what lies beyond it. `source` names the photograph in errors.
    """
    shorter = min(photograph.shape[1:])
    if shorter < crop_px:
        raise ImageError(
            f"{source} is {photograph.shape[2]}×{photograph.shape[1]} px, crops of "
            f"{crop_px}×{crop_px} are needed; leave it out or lower crop_px"
        )
    # Blur reaches this far when it is applied twice.
    wanted, room = -(-2 * KERNEL_RADIUS_PX // factor), (shorter - crop_px) // 2 // factor
    margin = min(wanted, room)
    region = random_region(photograph, crop_px + 2 * margin * factor, generator)
    turns = int(torch.randint(4, (), generator=generator))
    region = torch.rot90(region, turns, (1, 2))
    if torch.rand((), generator=generator) < 0.5:
        region = region.flip(2)
    crisp = region.float() / 255
    hr = soften(crisp, softness_px, generator)
    lr = degrade(hr, factor, degradation, generator)
    return Crop(
        inner(hr, margin * factor, crop_px).contiguous(),
        inner(lr, margin, crop_px // factor).contiguous(),
        inner(crisp, margin * factor, crop_px).contiguous(),
    )


def soften(image: Tensor, sigma_px: Range, generator: Generator) -> Tensor:
    """An image (3, H, W) blurred by a Gaussian of a random σ in `sigma_px`; as it is at σ = 0."""
    if not any(sigma_px):
        return image
    low, high = sigma_px
    sigma = low + (high - low) * float(torch.rand((), generator=generator))
    if sigma == 0:
        return image
    from torchvision.transforms.functional import gaussian_blur

    # Beyond 3 σ a Gaussian has nothing left.
    blurred: Tensor = gaussian_blur(image, [2 * math.ceil(3 * sigma) + 1] * 2, [sigma] * 2)
    return blurred


def random_region(image: Tensor, side: int, generator: Generator) -> Tensor:
    """A square of an image (3, H, W) that is at least as large."""
    height, width = image.shape[1:]
    top = int(torch.randint(height - side + 1, (), generator=generator))
    left = int(torch.randint(width - side + 1, (), generator=generator))
    return image[:, top : top + side, left : left + side]


def inner(image: Tensor, margin: int, side: int) -> Tensor:
    """The square of an image (3, H, W) that begins `margin` from its top and left."""
    return image[:, margin : margin + side, margin : margin + side]
