"""One retraining at another timestep: teacher, student, stages, and where it goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from passionsr_cli.calibration.losses import relative_error
from passionsr_cli.data.photographs import CropBatches, Photographs, stream
from passionsr_cli.fitting.loop import Batch, Fit, Objective, cosine, read_state
from passionsr_cli.metrics.psnr import psnr
from passionsr_cli.models.catalogue import KnownModel
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.components import COMPONENTS, DECODER, ENCODER, UNET, component_of
from passionsr_cli.models.loading import load
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Reporter
from passionsr_cli.retiming import adapters
from passionsr_cli.retiming.retime import moved
from passionsr_cli.retiming.settings import RetrainingSettings, RetrainingStage
from passionsr_cli.training.losses import as_model_input

STATE_FILE = "retraining.pt"
OBJECTIVE = "error"
VALIDATION_SEED = 1_000_000
START = "start"
LAST = {"latent": UNET, "image": DECODER}


@dataclass(frozen=True)
class Agreement:
    """Nearness of the student at one moment: relative squared error of z_H, mean PSNR (RGB,
    dB) of its images to the teacher's, on crops not trained on; `loss` is the moving average.
    Where there is a dial, at both its ends."""

    stage: str
    step: int
    minutes: float
    loss: float | None
    latent_error: float
    image_psnr: float

    def __str__(self) -> str:
        return (
            f"{self.stage} {self.step}: {self.image_psnr:.2f} dB to the model at its own timestep, "
            f"{self.minutes:.1f} min"
        )


class Record:
    """Measurements so far, and the time they took over all interruptions."""

    def __init__(self) -> None:
        self.rows: list[Agreement] = []
        self.spent, self.started = 0.0, time.monotonic()

    def minutes(self) -> float:
        return (self.spent + time.monotonic() - self.started) / 60

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [vars(row) for row in self.rows], "minutes": self.minutes()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [Agreement(**row) for row in state_dict["rows"]]
        self.spent, self.started = state_dict["minutes"] * 60, time.monotonic()


class Retrainer:
    """One run in one folder; `run` starts it or takes it up where it stopped."""

    def __init__(
        self,
        settings: RetrainingSettings,
        known: KnownModel,
        photographs: Photographs,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self.settings, self.photographs = settings, photographs
        self.folder, self.accelerator = folder, accelerator
        self.factor = known.description.upscale_factor
        torch.manual_seed(settings.seed)
        self.teacher = load(known.name).to(accelerator.device)
        self.student = moved(known, settings.timestep).to(accelerator.device)
        # What does not learn is the teacher's own.
        if ENCODER in settings.components:
            self.student.vae.decoder = self.teacher.vae.decoder
            self.student.vae.post_quant_conv = self.teacher.vae.post_quant_conv
        else:
            self.student.vae = self.teacher.vae
        self.learned = adapters.attach(
            self.student,
            settings.lora_rank,
            lambda name: component_of(name) in settings.components,
        )
        # Without an encoder of its own the student starts from the teacher's z_L.
        self.first = COMPONENTS.index(ENCODER if ENCODER in settings.components else UNET)
        self.record = Record()

    def run(self, reporter: Reporter) -> OneStepModel:
        """Train through all stages and return the student, its adapters merged."""
        saved = read_state(self.folder / STATE_FILE)
        names = [stage.name for stage in self.settings.stages]
        first = names.index(saved["stage"]) if saved else 0
        if not saved:
            self._measure(START, 0, None, reporter)
        processes = self.accelerator.num_processes
        for index, settings in enumerate(self.settings.stages[first:], first):
            stage = self._stage(settings, reporter)
            if saved:
                stage.resume(saved)
                saved = None
            batches = self._batches(
                settings.batch_size, settings.crop_px, self.settings.seed + index
            )
            start = stage.step * processes + self.accelerator.process_index
            stop = settings.steps * processes
            stage.run(stream(batches, start, stop, processes, self.settings.workers), reporter)
        adapters.merge(self.student)
        return self.student

    def _batches(self, batch_size: int, crop_px: int, seed: int) -> CropBatches:
        degradation = self.settings.degradation
        return CropBatches(self.photographs, batch_size, crop_px, self.factor, degradation, seed)

    def _stage(self, settings: RetrainingStage, reporter: Reporter) -> Fit:
        def after_step(step: int) -> None:
            if step % self.settings.validation_every_steps == 0 or step == settings.steps:
                self._measure(settings.name, step, stage.losses[OBJECTIVE], reporter)

        stage = Fit(
            name=settings.name,
            steps=settings.steps,
            objectives=[self._objective(settings)],
            tracked={"learned": self.learned, "record": self.record},
            accelerator=self.accelerator,
            file=self.folder / STATE_FILE,
            save_every_seconds=self.settings.save_every_seconds,
            after_step=after_step,
        )
        return stage

    def _objective(self, settings: RetrainingStage) -> Objective:
        parameters = list(self.learned)
        for parameter in parameters:
            parameter.requires_grad_(True)
        learning = COMPONENTS[self.first : COMPONENTS.index(LAST[settings.target]) + 1]
        to_photographs = settings.target == "image" and self.settings.teacher == "hr"
        # A photograph is what the default setting should make; the teacher has both ends itself.
        student = Chain(self.student, learning, each_head=not to_photographs)
        student = self.accelerator.prepare(student)
        teacher = Chain(self.teacher, learning, each_head=True)
        optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)

        def loss(batch: Batch) -> Tensor:
            x, hr = self._inputs(batch)
            result = student(x)
            if to_photographs:
                return F.l1_loss(result, hr)
            with torch.no_grad(), self.accelerator.autocast():
                target = teacher(x)
            return relative_error(result, target)

        rate = cosine(
            settings.learning_rate,
            settings.final_learning_rate,
            settings.steps,
            settings.warmup_steps,
        )
        prepared = self.accelerator.prepare(optimizer)
        return Objective(OBJECTIVE, parameters, prepared, loss, rate, settings.gradient_clip)

    @torch.no_grad()
    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Inputs of the first component that learns, and the photographs."""
        device = self.accelerator.device
        hr, lr = batch["hr"].to(device), batch["lr"].to(device)
        upscaled = as_model_input(lr, hr)
        with self.accelerator.autocast():
            x = Chain(self.teacher, COMPONENTS[: self.first])(upscaled)
        return x, hr

    @torch.no_grad()
    def _measure(
        self,
        stage: str,
        step: int,
        loss: float | None,
        reporter: Reporter,
    ) -> None:
        crop_px = max(stage.crop_px for stage in self.settings.stages)
        crops = self._batches(1, crop_px, VALIDATION_SEED)
        errors, values = [], []
        for number in range(self.settings.validation_crops):
            x, _ = self._inputs(crops[number])
            latents = [
                Chain(model, COMPONENTS[self.first : COMPONENTS.index(UNET) + 1], each_head=True)(x)
                for model in (self.student, self.teacher)
            ]
            errors.append(float(relative_error(latents[0], latents[1])))
            images = [self.teacher.decode(latent).clamp(0, 1) for latent in latents]
            values.append(psnr(images[0], images[1]))
        mean = sum(errors) / len(errors), sum(values) / len(values)
        row = Agreement(stage, step, self.record.minutes(), loss, *mean)
        self.record.rows.append(row)
        reporter.done(row)
