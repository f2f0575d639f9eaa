"""One training run: its models, its stages, and where it goes on after a stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from passionsr_cli.data.photographs import CropBatches, Photographs, stream
from passionsr_cli.errors import ImageError
from passionsr_cli.fitting.loop import Objective, Progress, Stage, cosine
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.training.discriminator import PatchDiscriminator
from passionsr_cli.training.initialisation import start_as_interpolator
from passionsr_cli.training.losses import Losses
from passionsr_cli.training.settings import TrainingSettings, TrainingStage
from passionsr_cli.training.validation import Validation, append_row, mean_psnr

STATE_FILE = "training.pt"
CURVE_FILE = "curve.csv"
VALIDATION_SEED = 1_000_000
ADAM_BETAS = (0.9, 0.99)


class Trainer:
    """One training run in one folder; `run` starts it or takes it up where it stopped."""

    def __init__(
        self, settings: TrainingSettings, photos: list[Path], folder: Path, accelerator: Accelerator
    ) -> None:
        self.settings, self.folder, self.accelerator = settings, folder, accelerator
        kept = settings.validation_photos
        if len(photos) < kept + 1:
            raise ImageError(
                f"found {len(photos)} photographs; training needs at least {kept + 1}, "
                f"{kept} of them for validation"
            )
        # Every n-th photograph, so that all sources are in the validation.
        held_out = photos[:: len(photos) // kept][:kept] if kept else []
        self.photographs = Photographs([photo for photo in photos if photo not in held_out])
        largest_crop_px = max(stage.crop_px for stage in settings.stages)
        self.validation = self._batches(Photographs(held_out), 1, largest_crop_px, VALIDATION_SEED)
        torch.manual_seed(settings.seed)
        self.model = OneStepModel(settings.model)
        start_as_interpolator(self.model)
        self.discriminator = PatchDiscriminator(settings.discriminator_channels)
        for module in (self.model, self.discriminator):
            module.to(accelerator.device).to(memory_format=torch.channels_last)
        self.averaged = AveragedModel(self.model)
        self.started, self.spent_seconds = time.monotonic(), 0.0

    def run(
        self, report: Callable[[Progress], None], validated: Callable[[Validation], None]
    ) -> OneStepModel:
        """Train through all stages and return the model with its averaged weights."""
        saved = self._saved()
        names = [stage.name for stage in self.settings.stages]
        first = names.index(saved["stage"]) if saved else 0
        model = self.accelerator.prepare(self.model)
        critic = self.accelerator.prepare(self.discriminator)
        processes = self.accelerator.num_processes
        for index, settings in enumerate(self.settings.stages[first:], first):
            stage = self._stage(settings, model, critic, validated)
            if saved:
                stage.resume(saved)
                saved = None
            batches = self._batches(
                self.photographs,
                settings.batch_size,
                settings.crop_px,
                self.settings.seed + index,
            )
            start = stage.step * processes + self.accelerator.process_index
            stop = settings.steps * processes
            stage.run(stream(batches, start, stop, processes, self.settings.workers), report)
            if settings.share_in_result and self.accelerator.is_main_process:
                self._keep(settings.name)
        return self._result()

    def _keep(self, stage: str) -> None:
        """Write the averaged weights as they are at the end of a stage."""
        weights = {k: v.cpu().contiguous() for k, v in self.averaged.module.state_dict().items()}
        with replace_atomically(self.folder / f"{stage}.safetensors") as temporary:
            save_file(weights, temporary)

    def _result(self) -> OneStepModel:
        """The averaged weights of the last stage, with the shares of earlier ones mixed in."""
        model = cast(OneStepModel, self.averaged.module)
        if not self.accelerator.is_main_process:
            return model
        mixed = {key: value.clone() for key, value in model.state_dict().items()}
        for stage in self.settings.stages:
            if stage.share_in_result:
                kept = load_file(self.folder / f"{stage.name}.safetensors")
                for key, value in model.state_dict().items():
                    mixed[key] += stage.share_in_result * (kept[key].to(value.device) - value)
        model.load_state_dict(mixed)
        return model

    def _batches(
        self, photographs: Photographs, batch_size: int, crop_px: int, seed: int
    ) -> CropBatches:
        factor, degradation = self.settings.model.upscale_factor, self.settings.degradation
        return CropBatches(photographs, batch_size, crop_px, factor, degradation, seed)

    def _saved(self) -> dict[str, Any] | None:
        path = self.folder / STATE_FILE
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def _stage(
        self,
        settings: TrainingStage,
        model: nn.Module,
        critic: nn.Module,
        validated: Callable[[Validation], None],
    ) -> Stage:
        average = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
        self.averaged.multi_avg_fn = average

        def after_step(step: int) -> None:
            self.averaged.update_parameters(self.model)
            due = step % self.settings.validation_every_steps == 0 or step == settings.steps
            if due and len(self.validation.photographs):
                validated(self._validate(settings.name, step))

        return Stage(
            name=settings.name,
            steps=settings.steps,
            objectives=self._objectives(settings, model, critic),
            tracked={
                "model": self.model,
                "averaged": self.averaged,
                "discriminator": self.discriminator,
                "clock": self,
            },
            accelerator=self.accelerator,
            file=self.folder / STATE_FILE,
            save_every_seconds=self.settings.save_every_seconds,
            after_step=after_step,
        )

    def _objectives(
        self, settings: TrainingStage, model: nn.Module, critic: nn.Module
    ) -> list[Objective]:
        losses = Losses(settings, model, critic, self.discriminator, self.accelerator)
        generator = Objective(
            "generator",
            list(model.parameters()),
            self._adam(model, settings.learning_rate),
            losses.generator,
            cosine(
                settings.learning_rate,
                settings.final_learning_rate,
                settings.steps,
                settings.warmup_steps,
            ),
            settings.gradient_clip,
        )
        if not settings.adversarial_weight:
            return [generator]
        rate = self.settings.discriminator_learning_rate
        optimizer = self._adam(critic, rate)
        discriminator = Objective(
            "discriminator",
            list(critic.parameters()),
            optimizer,
            losses.discriminator,
            lambda step: rate,
        )
        return [generator, discriminator]

    def _adam(self, module: nn.Module, rate: float) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(module.parameters(), lr=rate, betas=ADAM_BETAS, fused=True)
        prepared: torch.optim.Optimizer = self.accelerator.prepare(optimizer)
        return prepared

    def _validate(self, stage: str, step: int) -> Validation:
        ours, plain = mean_psnr(self.averaged.module, self.validation, self.accelerator)
        scores = Validation(stage, step, self.state_dict()["seconds"] / 60, ours, plain)
        if self.accelerator.is_main_process:
            append_row(self.folder / CURVE_FILE, scores)
        return scores

    def state_dict(self) -> dict[str, float]:
        """The seconds spent so far, over all interruptions."""
        return {"seconds": self.spent_seconds + time.monotonic() - self.started}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on counting from an earlier run."""
        self.spent_seconds, self.started = state_dict["seconds"], time.monotonic()
