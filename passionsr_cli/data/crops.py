"""Random crops of photographs and their degraded partners."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from passionsr_cli.config import DegradationSettings
from passionsr_cli.data.degradation import KERNEL_RADIUS_PX, degrade
from passionsr_cli.errors import ImageError


def degraded_crop(
    photograph: Tensor,
    source: object,
    crop_px: int,
    factor: int,
    degradation: DegradationSettings,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """A random crop (3, c, c) of a uint8 photograph (3, H, W), in [0, 1], and its LR partner.

    The crop is turned and mirrored at random. Where the photograph is large enough, blur at the
    crop's border sees what lies beyond it. `source` names the photograph in errors.
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
    region = region.float() / 255
    lr = degrade(region, factor, degradation, generator)
    return (
        inner(region, margin * factor, crop_px).contiguous(),
        inner(lr, margin, crop_px // factor).contiguous(),
    )


def random_region(image: Tensor, side: int, generator: Generator) -> Tensor:
    """A square of an image (3, H, W) that is at least as large."""
    height, width = image.shape[1:]
    top = int(torch.randint(height - side + 1, (), generator=generator))
    left = int(torch.randint(width - side + 1, (), generator=generator))
    return image[:, top : top + side, left : left + side]


def inner(image: Tensor, margin: int, side: int) -> Tensor:
    """The square of an image (3, H, W) that begins `margin` from its top and left."""
    return image[:, margin : margin + side, margin : margin + side]
