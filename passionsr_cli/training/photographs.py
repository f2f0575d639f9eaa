"""Training batches: crops of photographs and their degraded partners."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from passionsr_cli.config import DegradationSettings
from passionsr_cli.errors import ImageError
from passionsr_cli.fitting.loop import Batch
from passionsr_cli.imaging.degradation import KERNEL_RADIUS_PX, degrade
from passionsr_cli.imaging.files import read_rgb

CACHE_BYTES = 3 * 2**30


class Photographs(Sequence[Tensor]):
    """The photographs of a folder as (3, H, W) uint8 tensors, kept in memory while they fit."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.cached: dict[int, Tensor] = {}
        self.free_bytes = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        if index in self.cached:
            return self.cached[index]
        photograph = read_rgb(self.paths[index])
        if photograph.nbytes <= self.free_bytes:
            self.free_bytes -= photograph.nbytes
            self.cached[index] = photograph
        return photograph


class CropBatches(Dataset[Batch]):
    """Batch number i of a run, from (seed, i) alone: `hr` (B, 3, c, c), `lr` (B, 3, c/f, c/f)."""

    def __init__(
        self,
        photographs: Photographs,
        batch_size: int,
        crop_px: int,
        factor: int,
        degradation: DegradationSettings,
        seed: int,
    ) -> None:
        self.photographs, self.batch_size, self.crop_px = photographs, batch_size, crop_px
        self.factor, self.degradation, self.seed = factor, degradation, seed
        # Blur at a crop's border must see what lies beyond it.
        self.margin_px = factor * -(-2 * KERNEL_RADIUS_PX // factor)

    def __getitem__(self, index: int) -> Batch:
        # torch's CPU generator takes 32 bits: both numbers must be mixed into them.
        mixed = np.random.SeedSequence((self.seed, index)).generate_state(1)
        generator = Generator().manual_seed(int(mixed[0]))
        pairs = [self._pair(generator) for _ in range(self.batch_size)]
        return {
            "hr": torch.stack([hr for hr, _ in pairs]),
            "lr": torch.stack([lr for _, lr in pairs]),
        }

    def _pair(self, generator: Generator) -> tuple[Tensor, Tensor]:
        choice = int(torch.randint(len(self.photographs), (), generator=generator))
        side = self.crop_px + 2 * self.margin_px
        region = _random_region(
            self.photographs[choice], side, self.photographs.paths[choice], generator
        )
        turns = int(torch.randint(4, (), generator=generator))
        region = torch.rot90(region, turns, (1, 2))
        if torch.rand((), generator=generator) < 0.5:
            region = region.flip(2)
        region = region.float() / 255
        lr = degrade(region, self.factor, self.degradation, generator)
        inner, inner_lr = self.margin_px, self.margin_px // self.factor
        crop_lr = self.crop_px // self.factor
        return (
            region[:, inner : inner + self.crop_px, inner : inner + self.crop_px],
            lr[:, inner_lr : inner_lr + crop_lr, inner_lr : inner_lr + crop_lr],
        )


def _random_region(photograph: Tensor, side: int, path: Path, generator: Generator) -> Tensor:
    height, width = photograph.shape[1:]
    if min(height, width) < side:
        raise ImageError(
            f"{path} is {width}×{height} px, training needs at least {side}×{side}; "
            "remove it or lower crop_px"
        )
    top = int(torch.randint(height - side + 1, (), generator=generator))
    left = int(torch.randint(width - side + 1, (), generator=generator))
    return photograph[:, top : top + side, left : left + side]


def stream(
    batches: CropBatches, start: int, stop: int, stride: int, workers: int
) -> Iterator[Batch]:
    """Batches start, start + stride, … below stop, prepared ahead by worker processes."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, stop, stride),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_interrupts_to_the_main_process,
    )
    yield from loader


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
