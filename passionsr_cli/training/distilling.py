"""Light decoders from photographs alone: a decoder of fewer channels learns a model's own.

Latents are those of photographs, and what the model's own decoder makes of them is wanted, so that
no restored image is needed and the UNet never runs (the first stage of AdcSR, arXiv 2411.13383).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from passionsr_cli.calibration.perceptual import perceptual_distance
from passionsr_cli.config import DegradationSettings
from passionsr_cli.data.photographs import CropBatches, Photographs, stream
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError
from passionsr_cli.fitting.loop import Batch, Fit, Objective, cosine, read_state
from passionsr_cli.metrics.psnr import psnr
from passionsr_cli.models.catalogue import find_present
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.components import DECODER
from passionsr_cli.models.loading import load
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.store import MODEL, Entry, Store
from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.paths import StrPath, optional_path
from passionsr_cli.training.run import (
    claimed,
    finished,
    learned_from,
    note_settings,
    origin_of,
    photographs_in,
    run_folder,
    write_descendant,
)
from passionsr_cli.training.settings import DistillationSettings
from passionsr_cli.training.trainer import ADAM_BETAS, STATE_FILE, VALIDATION_SEED

TASK = "decoder"


@dataclass(frozen=True)
class Likeness:
    """PSNR in dB of a light decoder's images to those of the model's own, a mean over crops."""

    step: int
    psnr: float

    def __str__(self) -> str:
        return f"{TASK} {self.step}: {self.psnr:.2f} dB to the model's own"


def distil(
    settings: DistillationSettings,
    photos: StrPath | None,
    name: str,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter = SILENT,
) -> Entry:
    """Train a decoder of fewer channels for a model and store the model with it as `name`.

    Learns from the `sample:` photographs unless there is a folder. Goes on like `train`.
    `models add --decoder` takes the decoder out of the result's file. The preset's settings are
    `settings_from("distil", DistillationSettings, {"model": NAME})`.
    """
    store, recorded = Store(MODEL), settings.model_dump(mode="json")
    known = find_present(settings.model)
    made_from = {"model": {"name": known.name, "sha256": known.sha256}}
    about: dict[str, Any] = {"made_from": made_from, "distillation": recorded}
    photos = optional_path(photos)
    origin = origin_of(photos, settings.model)
    there = finished(store, name, about, origin, reporter)
    if there is not None:
        return there
    used = accelerator(device, precision, reporter)
    description = lighter(known.description, settings)
    folder, photographs = run_folder(store, name), photographs_in(photos)
    with claimed(folder, used):
        note_settings(folder, settings, origin)
        distiller = Distiller(settings, known.name, description, photographs, folder, used)
        model = distiller.run(reporter)
    if used.is_main_process:
        own = description.model_copy(update={"name": name})
        about["origin"] = origin
        about["photographs"] = learned_from(photos, photographs)
        about["curve"] = [vars(likeness) for likeness in distiller.curve]
        write_descendant(store, model, own, about, folder)
    used.wait_for_everyone()
    return store.read(name)


def lighter(description: ModelDescription, settings: DistillationSettings) -> ModelDescription:
    """The description of a model with a decoder of `settings.width` times its channels.

    Raises `ConfigError` for a model without an encoder, whose decoder reads no latents of
    photographs, and for crops that it does not take.
    """
    if description.encoder != "vae":
        raise ConfigError(
            f"'{description.name}' has no VAE encoder to make latents of photographs with; its "
            "decoder cannot be distilled"
        )
    if settings.crop_px % description.unit_px:
        raise ConfigError(
            f"crop_px must be a multiple of {description.unit_px}, found {settings.crop_px}"
        )
    groups = int(description.vae.get("norm_num_groups", 32))
    own = description.decoder_channels or description.vae["block_out_channels"]
    channels = [max(1, round(width * settings.width / groups)) * groups for width in own]
    values = description.model_dump() | {"decoder_channels": channels}
    return ModelDescription.model_validate(values)


class Distiller:
    """One run in one folder; `run` starts it or takes it up where it stopped."""

    def __init__(
        self,
        settings: DistillationSettings,
        model: str,
        description: ModelDescription,
        photographs: Photographs,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self.settings, self.photographs = settings, photographs
        self.folder, self.accelerator = folder, accelerator
        self.teacher = load(model)
        torch.manual_seed(settings.seed)
        self.student = with_fresh_decoder(self.teacher, description)
        self.curve: list[Likeness] = []
        for each in (self.teacher, self.student):
            # The UNet never runs.
            each.vae.to(accelerator.device)
        name, self.distance = perceptual_distance(self.teacher, accelerator.device, strict=False)
        self.perceptual_name = name

    def run(self, reporter: Reporter) -> OneStepModel:
        """Train to the last step; the model with the decoder that learned."""
        fit = self._fit(reporter)
        saved = read_state(self.folder / STATE_FILE)
        if saved:
            fit.resume(saved)
        else:
            self._measure(0, reporter)
        if self.settings.perceptual:
            reporter.note(f"L1 and {self.settings.perceptual:g} × {self.perceptual_name}")
        count, place = self.accelerator.num_processes, self.accelerator.process_index
        start, stop = fit.step * count + place, fit.steps * count
        batches = self._crops(self.settings.batch_size, self.settings.seed)
        fit.run(stream(batches, start, stop, count, self.settings.workers), reporter)
        return self.student.eval().requires_grad_(False)

    def _fit(self, reporter: Reporter) -> Fit:
        def after_step(step: int) -> None:
            if step % self.settings.validation_every_steps == 0 or step == self.settings.steps:
                self._measure(step, reporter)

        return Fit(
            name=TASK,
            steps=self.settings.steps,
            objectives=[self._objective()],
            tracked={"decoder": self.student.vae.decoder, "curve": self},
            accelerator=self.accelerator,
            file=self.folder / STATE_FILE,
            save_every_seconds=self.settings.save_every_seconds,
            after_step=after_step,
        )

    def _objective(self) -> Objective:
        settings = self.settings
        learned = list(self.student.vae.decoder.requires_grad_(True).parameters())
        decode = self.accelerator.prepare(Chain(_autoencoder(self.student), (DECODER,)))
        adam = torch.optim.Adam(learned, lr=settings.learning_rate, betas=ADAM_BETAS, fused=True)
        rate = cosine(
            settings.learning_rate,
            settings.final_learning_rate,
            settings.steps,
            settings.warmup_steps,
        )

        def loss(batch: Batch) -> Tensor:
            latents, wanted = self._lesson(batch)
            found = decode(latents)
            distance = F.l1_loss(found, wanted)
            if settings.perceptual:
                distance = distance + settings.perceptual * self.distance(found, wanted)
            return distance

        optimizer = self.accelerator.prepare(adam)
        return Objective(TASK, learned, optimizer, loss, rate, settings.gradient_clip)

    @torch.no_grad()
    def _lesson(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Latents of photographs and the images that the model's own decoder makes of them."""
        photographs = batch["hr"].to(self.accelerator.device)
        with self.accelerator.autocast():
            latents = self.teacher.encode(photographs)
            return latents.float(), self.teacher.decode(latents)

    @torch.no_grad()
    def _measure(self, step: int, reporter: Reporter) -> None:
        crops, values = self._crops(1, VALIDATION_SEED), []
        for number in range(self.settings.validation_crops):
            latents, wanted = self._lesson(crops[number])
            with self.accelerator.autocast():
                found = self.student.decode(latents)
            values.append(psnr(found.clamp(0, 1), wanted.clamp(0, 1)))
        self.curve.append(Likeness(step, sum(values) / len(values)))
        reporter.done(self.curve[-1])

    def _crops(self, batch_size: int, seed: int) -> CropBatches:
        # Photographs as they are: nothing reads their degraded partners.
        factor, crop_px = self.student.description.upscale_factor, self.settings.crop_px
        return CropBatches(
            self.photographs, batch_size, crop_px, factor, DegradationSettings(), seed
        )

    def state_dict(self) -> dict[str, Any]:
        """The measurements so far."""
        return {"curve": [vars(likeness) for likeness in self.curve]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the measurements of an earlier run."""
        self.curve = [Likeness(**row) for row in state_dict["curve"]]


def with_fresh_decoder(model: OneStepModel, description: ModelDescription) -> OneStepModel:
    """The same model with a decoder as `description` says, of weights it is born with.

    All else is the model's own tensors, not copies.
    """
    with torch.device("meta"):
        made = OneStepModel(description)
    prefix = "vae.decoder."
    kept = {name: held for name, held in model.state_dict().items() if not name.startswith(prefix)}
    made.load_state_dict(kept, strict=False, assign=True)
    made.vae.decoder.to_empty(device="cpu")
    for module in made.vae.decoder.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return made.requires_grad_(False).to(memory_format=torch.channels_last)


def _autoencoder(model: OneStepModel) -> OneStepModel:
    """The same modules without the UNet, which would take a device's memory."""
    alone = copy.copy(model)
    alone._modules = {name: held for name, held in model._modules.items() if name != "unet"}
    return alone
