"""Batches of one training: photographs, drawn images and plain colours, in given shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from passionsr_cli.data.crops import Crop, degraded_crop
from passionsr_cli.data.drawn import drawn_image, plain_colour
from passionsr_cli.data.photographs import CropBatches, Photographs
from passionsr_cli.fitting.loop import Batch
from passionsr_cli.training.settings import CropKind

# Networks with strides look at the images from another phase each time.
LARGEST_OFFSET_PX = 8
# What is drawn is larger than a crop, so that blur sees what lies beyond its border.
DRAWN_MARGIN_PX = 32


class TrainingBatches(CropBatches):
    """Batch number i of a run, from (seed, i) alone: `hr` and `crisp` (B, 3, c, c), `lr`
    (B, 3, c/f, c/f), in [0, 1], and `offset_px` (2,), by which critics see the images shifted."""

    def __init__(
        self,
        photographs: Photographs,
        batch_size: int,
        crop_px: int,
        factor: int,
        kinds: Sequence[CropKind],
        seed: int,
    ) -> None:
        super().__init__(photographs, batch_size, crop_px, factor, kinds[0].degradation, seed)
        self.kinds = kinds
        self.shares = torch.tensor([kind.share for kind in kinds])

    def _batch(self, generator: Generator) -> Batch:
        offset = random_offset(generator)
        return super()._batch(generator) | {"offset_px": offset}

    def _crop(self, generator: Generator) -> Crop:
        kind = self.kinds[int(torch.multinomial(self.shares, 1, generator=generator))]
        if kind.content == "plain":
            colour = plain_colour(generator)
            sides = (self.crop_px, self.crop_px // self.factor)
            hr, lr = (colour.expand(3, side, side).contiguous() for side in sides)
            return Crop(hr, lr, hr)
        if kind.content == "drawn":
            image, source = drawn_image(self.crop_px + DRAWN_MARGIN_PX, generator), "drawn"
        else:
            choice = int(torch.randint(len(self.photographs), (), generator=generator))
            image, source = self.photographs[choice], str(self.photographs.paths[choice])
        return degraded_crop(
            image,
            source,
            self.crop_px,
            self.factor,
            kind.degradation,
            generator,
            kind.softness_px,
        )


def random_offset(generator: Generator) -> Tensor:
    """By how many rows and columns critics see a batch shifted, (2,)."""
    return torch.randint(LARGEST_OFFSET_PX, (2,), generator=generator)
