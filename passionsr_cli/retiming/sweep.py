"""Quantization error over the timestep: what retraining at another one could gain.

    z_H = (z_L − σ ε)/α

An error of ε reaches z_H multiplied by σ/α. If instead ε has a relative error ρ, that of z_H is
ρ·‖z_L − α z_H‖/α, which is small where little is left to predict (TRQ, QArtSR, arXiv 2503.05584).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from passionsr_cli import methods
from passionsr_cli.calibration.bits import completed
from passionsr_cli.calibration.engine import Calibration
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data.calibration_images import CalibrationImages, gather
from passionsr_cli.errors import ConfigError
from passionsr_cli.metrics.psnr import psnr
from passionsr_cli.models.catalogue import KnownModel, find_present
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.components import DECODER, ENCODER, UNET
from passionsr_cli.models.loading import load, load_entry
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.models.schedule import signal_and_noise
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.retiming.retime import described_at
from passionsr_cli.retiming.sweep_picture import draw_sweep
from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.own_files import check_replaceable
from passionsr_cli.system.paths import StrPath, optional_path


@dataclass(frozen=True)
class SweepRow:
    """One timestep. Errors are root mean squares, in the units of z_H, of the quantized model to
    the full-precision one at the same timestep, over all images: `unet_error` with the UNet alone
    quantized, `latent_error` with the encoder too; `image_psnr` (dB, RGB) is the whole model's.

    `gain` is σ/α, `distance` ‖z_L − α z_H‖/α, root mean square, with z_H as the model makes it at
    its own timestep.
    """

    model: str
    timestep: int
    gain: float
    distance: float
    unet_error: float
    latent_error: float
    image_psnr: float

    def __str__(self) -> str:
        return f"{self.model} at t = {self.timestep}: {self.image_psnr:.2f} dB"


@dataclass(frozen=True)
class Sweep:
    """One model at several timesteps, others at their own, and theory's constants.

    `absolute` times `gain`, and `relative` (ρ) times `distance`, fit the rows' `unet_error` best,
    in the mean square of logarithms: an absolute error of ε, and its relative one.
    """

    model: str
    timestep: int
    bits: str
    rows: tuple[SweepRow, ...]
    retrained: tuple[SweepRow, ...]
    absolute: float
    relative: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def sweep_timesteps(
    settings: CalibrationSettings,
    timesteps: Sequence[int],
    retrained: Sequence[str] = (),
    picture: StrPath | None = None,
    reporter: Reporter = SILENT,
) -> Sweep:
    """Quantize a model at each of these timesteps as it is, and others at their own, each against
    itself in full precision; drawn into `picture` (PNG, SVG or PDF) if one is named.

    `settings` say the model, bits and images; what they leave out is as for `calibrate`. Raises
    `ModelError` for a model without a schedule, `ConfigError` for a timestep outside it, or a
    budget, `OutputError` for a picture that would replace a file of others.
    """
    if settings.budget is not None:
        raise ConfigError("a sweep has the same bits at every timestep; leave out the budget")
    picture = optional_path(picture)
    if picture is not None:
        check_replaceable(picture)
    settings = completed(settings)
    used = accelerator(settings.device, settings.precision, reporter)
    known = find_present(settings.model)
    descriptions = [described_at(known.description, timestep) for timestep in timesteps]
    others = [find_present(name) for name in retrained]
    for other in others:
        described_at(other.description, other.description.timestep)
    images = gather(settings, known.description)
    meter = _Meter(settings, images, used, load(settings.model))
    rows, dots = [], []
    for description in descriptions:
        rows.append(meter.row(known, description.timestep))
        reporter.done(rows[-1])
    for other in others:
        dots.append(meter.row(other, other.description.timestep))
        reporter.done(dots[-1])
    sweep = Sweep(
        known.name,
        known.description.timestep,
        settings.bits_name,
        tuple(rows),
        tuple(dots),
        absolute=_fit([(row.gain, row.unet_error) for row in rows]),
        relative=_fit([(row.distance, row.unet_error) for row in rows]),
    )
    if picture is not None:
        draw_sweep(picture, sweep)
    return sweep


class _Meter:
    """Measures models against themselves in full precision, on the same images."""

    def __init__(
        self,
        settings: CalibrationSettings,
        images: CalibrationImages,
        accelerator: Accelerator,
        model: OneStepModel,
    ) -> None:
        self.settings, self.images, self.accelerator = settings, images, accelerator
        model.to(accelerator.device)
        self.low = [self._run(model, (ENCODER,), x) for x in self._inputs()]
        self.high = [self._run(model, (UNET,), x) for x in self.low]

    def _inputs(self) -> list[Tensor]:
        device = self.accelerator.device
        return [self.images.upscaled([number]).to(device) for number in range(len(self.images))]

    def row(self, known: KnownModel, timestep: int) -> SweepRow:
        """A model at one timestep: in full precision, then quantized."""
        description = described_at(known.description, timestep)
        model = load_entry(known.entry, description).to(self.accelerator.device)
        low = [self._run(model, (ENCODER,), x) for x in self._inputs()]
        high = [self._run(model, (UNET,), z) for z in low]
        images = [self._run(model, (DECODER,), z) for z in high]
        with tempfile.TemporaryDirectory() as folder:
            Calibration(
                model,
                self.settings,
                methods.build(self.settings),
                self.images,
                Path(folder),
                self.accelerator,
                SILENT,
            ).run()
        alone = [self._run(model, (UNET,), z) for z in low]
        together = [self._run(model, (ENCODER, UNET), x) for x in self._inputs()]
        results = [self._run(model, (DECODER,), z) for z in together]
        alpha, sigma = signal_and_noise(description.schedule, timestep)
        return SweepRow(
            known.name,
            timestep,
            sigma / alpha,
            _distance([z / alpha for z in self.low], self.high),
            _distance(alone, high),
            _distance(together, high),
            sum(map(_image_psnr, results, images)) / len(images),
        )

    @torch.no_grad()
    def _run(self, model: OneStepModel, components: tuple[str, ...], x: Tensor) -> Tensor:
        result: Tensor = Chain(model, components)(x)
        return result


def _distance(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Root mean square of the differences, over all images."""
    squares = [F.mse_loss(one, other) for one, other in zip(tensors, others, strict=True)]
    return float((sum(squares) / len(squares)) ** 0.5)


def _image_psnr(image: Tensor, reference: Tensor) -> float:
    return psnr(image.clamp(0, 1), reference.clamp(0, 1))


def _fit(pairs: Sequence[tuple[float, float]]) -> float:
    """The factor that brings the first of each pair nearest to the second, on a logarithmic
    scale: their ratio's geometric mean."""
    ratios = torch.tensor([second / first for first, second in pairs], dtype=torch.float64)
    return float(ratios.log().mean().exp())
