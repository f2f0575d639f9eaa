"""The images a model is calibrated on: a fixed set of low-resolution crops."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data.crops import degraded_crop, random_region
from passionsr_cli.data.resampling import bicubic
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, ImageError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import images_in, read_rgb, size_of
from passionsr_cli.pixels.arrays import rounded_levels
from passionsr_cli.pixels.resampling import pad_mirroring

# The settings that choose the images.
CHOOSING = {"images", "image_kind", "crops", "crop_px", "degradation", "seed"}
_fingerprints: dict[tuple[object, ...], str] = {}


@dataclass(frozen=True)
class CalibrationImages:
    """LR crops (N, 3, h, w) and, if they were made from photographs, HR crops, both uint8.

    `repeated` says that the model wants each pixel repeated (see `description.ModelDescription`).
    """

    lr: Tensor
    hr: Tensor | None
    factor: int
    repeated: bool = False

    def __len__(self) -> int:
        return len(self.lr)

    def upscaled(self, indices: Sequence[int]) -> Tensor:
        """Model inputs (B, 3, H, W) in [0, 1], as the upscaler makes them."""
        lr = self.lr[list(indices)].float() / 255
        if self.repeated:
            return lr.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)
        size = (lr.shape[-2] * self.factor, lr.shape[-1] * self.factor)
        return bicubic(lr, size).clamp(0, 1)

    def photographs(self, indices: Sequence[int]) -> Tensor:
        """The HR crops (B, 3, H, W) in [0, 1]."""
        assert self.hr is not None
        return self.hr[list(indices)].float() / 255

    def fingerprint(self) -> str:
        """SHA-256 of the LR crops: two calibrations saw the same images if it is the same."""
        return hashlib.sha256(self.lr.numpy().tobytes()).hexdigest()


def gather(settings: CalibrationSettings, description: ModelDescription) -> CalibrationImages:
    """The calibration set that the settings ask for, the same for the same seed and files.

    Without a folder, crops of the `sample:` photographs, degraded as in training and mirrored at
    their border where they are smaller than a crop.
    """
    factor, repeated = description.upscale_factor, description.encoder == "unshuffle"
    unit_px = description.unit_px
    if settings.crop_px % unit_px:
        raise ConfigError(f"crop_px must be a multiple of {unit_px}, found {settings.crop_px}")
    if settings.images is None:
        sources: list[str | Path] = [f"{samples.PREFIX}{name}" for name in samples.NAMES]
        return CalibrationImages(*_degraded(sources, settings, factor), factor, repeated)
    files = images_in(settings.images)
    if _kind(settings, files, factor) == "hr":
        return CalibrationImages(*_degraded(files, settings, factor), factor, repeated)
    side = settings.crop_px // factor
    crops = [
        _lr_crop(files[number % len(files)], side, _generator(settings, number))
        for number in range(settings.crops)
    ]
    return CalibrationImages(torch.stack(crops), None, factor, repeated)


def fingerprint_of(settings: CalibrationSettings, description: ModelDescription) -> str:
    """The fingerprint of what `gather` gives, made once of the same files: it takes seconds."""
    files = () if settings.images is None else images_in(settings.images)
    states = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    key = (settings.model_dump_json(include=CHOOSING), description.model_dump_json(), states)
    if key not in _fingerprints:
        _fingerprints[key] = gather(settings, description).fingerprint()
    return _fingerprints[key]


def default_crops(description: ModelDescription, size: int, count: int) -> list[Tensor]:
    """Model inputs (1, 3, size, size) in [0, 1]: crops of the `sample:` photographs, degraded."""
    images = gather(CalibrationSettings(crops=count, crop_px=size), description)
    return [images.upscaled([number]) for number in range(count)]


def _kind(settings: CalibrationSettings, files: Sequence[Path], factor: int) -> str:
    """'hr' where every image holds a whole crop of the result, 'lr' otherwise."""
    if settings.image_kind != "auto":
        return settings.image_kind
    return "hr" if all(min(size_of(file)) >= settings.crop_px for file in files) else "lr"


def _generator(settings: CalibrationSettings, number: int) -> Generator:
    mixed = np.random.SeedSequence((settings.seed, number)).generate_state(1)
    return Generator().manual_seed(int(mixed[0]))


def _degraded(
    sources: Sequence[str | Path], settings: CalibrationSettings, factor: int
) -> tuple[Tensor, Tensor]:
    """LR and HR crops, uint8."""
    pairs: list[tuple[int, Tensor, Tensor]] = []
    # Source by source, so that one photograph at a time is in memory.
    for first, source in enumerate(sources[: settings.crops]):
        photograph = _photograph(source, settings.crop_px)
        for number in range(first, settings.crops, len(sources)):
            generator = _generator(settings, number)
            crop = degraded_crop(
                photograph, source, settings.crop_px, factor, settings.degradation, generator
            )
            pairs.append((number, crop.hr, crop.lr))
    pairs.sort(key=lambda pair: pair[0])
    hr = torch.stack([_eight_bits(pair[1]) for pair in pairs])
    lr = torch.stack([_eight_bits(pair[2]) for pair in pairs])
    return lr, hr


def _photograph(source: str | Path, crop_px: int) -> Tensor:
    if not samples.is_sample(source):
        return torch.from_numpy(read_rgb(Path(source)))
    image = samples.high_resolution(str(source))
    height, width = (max(side, crop_px) for side in image.shape[1:])
    return torch.from_numpy(rounded_levels(pad_mirroring(image, height, width)))


def _lr_crop(file: Path, side: int, generator: Generator) -> Tensor:
    image = torch.from_numpy(read_rgb(file))
    if min(image.shape[1:]) < side:
        raise ImageError(
            f"{file} is {image.shape[2]}×{image.shape[1]} px, low-resolution crops of "
            f"{side}×{side} are needed; leave it out or lower crop_px"
        )
    return random_region(image, side, generator)


def _eight_bits(image: Tensor) -> Tensor:
    return (image * 255).round().to(torch.uint8)
