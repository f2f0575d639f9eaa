"""Training batches: crops of photographs and their degraded partners."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from passionsr_cli.config import DegradationSettings
from passionsr_cli.data.crops import Crop, degraded_crop
from passionsr_cli.fitting.loop import Batch
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import read_rgb
from passionsr_cli.pixels.arrays import rounded_levels

CACHE_BYTES = 3 * 2**30
# So much of each file tells it from others of its name and size.
HASHED_BYTES = 2**16


class Photographs(Sequence[Tensor]):
    """Files and `sample:` photographs as (3, H, W) uint8 tensors, kept in memory while they fit."""

    def __init__(self, paths: Sequence[Path | str]) -> None:
        self.paths = list(paths)
        self.cached: dict[int, Tensor] = {}
        self.free_bytes = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        if index in self.cached:
            return self.cached[index]
        photograph = _read(self.paths[index])
        if photograph.nbytes <= self.free_bytes:
            self.free_bytes -= photograph.nbytes
            self.cached[index] = photograph
        return photograph

    def fingerprint(self) -> str:
        """SHA-256 of the files' names, sizes and beginnings: the same for the same photographs, in
        any folder, without reading all of them."""
        digest = hashlib.sha256()
        for path in self.paths:
            if samples.is_sample(path):
                digest.update(f"{path}\n".encode())
                continue
            size = Path(path).stat().st_size
            digest.update(f"{Path(path).name} {size}\n".encode("utf-8", "surrogateescape"))
            with Path(path).open("rb") as file:
                digest.update(file.read(HASHED_BYTES))
        return digest.hexdigest()


def _read(source: Path | str) -> Tensor:
    if samples.is_sample(source):
        return torch.from_numpy(rounded_levels(samples.high_resolution(str(source))))
    return torch.from_numpy(read_rgb(Path(source)))


class Batches(Dataset[Batch]):
    """Batch number i of a run, from (seed, i) alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __getitem__(self, index: int) -> Batch:
        # torch's CPU generator takes 32 bits: both numbers must be mixed into them.
        mixed = np.random.SeedSequence((self.seed, index)).generate_state(1)
        return self._batch(Generator().manual_seed(int(mixed[0])))

    def _batch(self, generator: Generator) -> Batch:
        raise NotImplementedError


class CropBatches(Batches):
    """Degraded crops: `hr` and `crisp` (B, 3, c, c), `lr` (B, 3, c/f, c/f), in [0, 1]."""

    def __init__(
        self,
        photographs: Photographs,
        batch_size: int,
        crop_px: int,
        factor: int,
        degradation: DegradationSettings,
        seed: int,
    ) -> None:
        super().__init__(seed)
        self.photographs, self.batch_size, self.crop_px = photographs, batch_size, crop_px
        self.factor, self.degradation = factor, degradation

    def _batch(self, generator: Generator) -> Batch:
        crops = [self._crop(generator) for _ in range(self.batch_size)]
        sides = zip(*crops, strict=True)
        return {name: torch.stack(s) for name, s in zip(Crop._fields, sides, strict=True)}

    def _crop(self, generator: Generator) -> Crop:
        choice = int(torch.randint(len(self.photographs), (), generator=generator))
        return degraded_crop(
            self.photographs[choice],
            self.photographs.paths[choice],
            self.crop_px,
            self.factor,
            self.degradation,
            generator,
        )


def stream(batches: Batches, start: int, stop: int, stride: int, workers: int) -> Iterator[Batch]:
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
    # A terminal that closes tells them, too; whoever ends them does so by SIGTERM.
    for number in {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}:
        signal.signal(number, signal.SIG_IGN)
