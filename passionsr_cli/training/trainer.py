"""One training run: its models, its stages, and where it goes on after a stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from passionsr_cli.data.photographs import Batches, Photographs, stream
from passionsr_cli.errors import ImageError
from passionsr_cli.fitting.loop import Batch, Fit, Objective, Stateful, cosine, read_state
from passionsr_cli.models.catalogue import find_present
from passionsr_cli.models.components import component_of
from passionsr_cli.models.loading import load_entry
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Reporter
from passionsr_cli.training.batches import TrainingBatches
from passionsr_cli.training.ends import Ends, natural_starts_as_faithful, silent_blocks_skipped
from passionsr_cli.training.initialisation import start_as_interpolator
from passionsr_cli.training.losses import Critics, Losses
from passionsr_cli.training.settings import TrainingSettings, TrainingStage
from passionsr_cli.training.taught import TaughtBatches, teach
from passionsr_cli.training.validation import (
    Validation,
    append_row,
    drop_rows_beyond,
    mean_psnr,
)

STATE_FILE = "training.pt"
CURVE_FILE = "curve.csv"
VALIDATION_SEED, TEACHER_SEED = 1_000_000, 2_000_000
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
        self.validation = self._validation(Photographs(held_out))
        torch.manual_seed(settings.seed)
        self.model = self._start()
        self.critics = self._critics()
        for module in filter(None, (self.model, self.critics)):
            module.to(accelerator.device).to(memory_format=torch.channels_last)
        self.averaged = AveragedModel(self.model)
        self.started, self.spent_seconds = time.monotonic(), 0.0

    def _start(self) -> OneStepModel:
        """The model before its first step."""
        settings = self.settings
        if settings.start_from is not None:
            return load_entry(find_present(settings.start_from).entry, settings.model)
        model = OneStepModel(settings.model)
        start_as_interpolator(model)
        return model

    def _critics(self) -> Critics | None:
        settings = self.settings
        if not any(stage.criticized for stage in settings.stages):
            return None
        return Critics(settings.patch_critic_channels, settings.projected_critic_channels)

    def run(self, reporter: Reporter) -> OneStepModel:
        """Train through all stages and return the model with its averaged weights."""
        saved = read_state(self.folder / STATE_FILE)
        names = [stage.name for stage in self.settings.stages]
        first = names.index(saved["stage"]) if saved else 0
        if self.accelerator.is_main_process:
            done = {each.name: each.steps for each in self.settings.stages[:first]}
            now = {saved["stage"]: saved["step"]} if saved else {}
            drop_rows_beyond(self.folder / CURVE_FILE, {**done, **now})
        model = self.accelerator.prepare(Ends(self.model))
        critics = self.critics and self.accelerator.prepare(self.critics)
        processes = self.accelerator.num_processes
        for index, settings in enumerate(self.settings.stages[first:], first):
            if settings.natural:
                self._start_natural_end()
            stage = self._stage(settings, model, critics, reporter)
            if saved:
                stage.resume(saved)
                saved = None
            batches = self._batches(settings, self.settings.seed + index, reporter)
            start = stage.step * processes + self.accelerator.process_index
            stop = settings.steps * processes
            learned = stage.objectives[0].parameters
            with silent_blocks_skipped(self.model, learned):
                stage.run(stream(batches, start, stop, processes, self.settings.workers), reporter)
        return cast(OneStepModel, self.averaged.module)

    def _start_natural_end(self) -> None:
        for model in (self.model, cast(OneStepModel, self.averaged.module)):
            natural_starts_as_faithful(model)

    def _batches(self, stage: TrainingStage, seed: int, reporter: Reporter) -> Batches:
        factor = self.settings.model.upscale_factor
        if not stage.taught:
            return self._crops(stage.batch_size, stage.crop_px, seed)
        teacher = self.settings.teacher
        folder = self.folder / "taught"
        crops = self._crops(1, teacher.crop_px, TEACHER_SEED)
        teach(crops, teacher, folder, self.accelerator, reporter)
        return TaughtBatches(folder, teacher.crops, stage.batch_size, stage.crop_px, factor, seed)

    def _crops(self, batch_size: int, crop_px: int, seed: int) -> TrainingBatches:
        settings = self.settings
        kinds = list(settings.crops.values())
        factor = settings.model.upscale_factor
        return TrainingBatches(self.photographs, batch_size, crop_px, factor, kinds, seed)

    def _validation(self, held_out: Photographs) -> TrainingBatches:
        """Crops of the first kind, of photographs that are never learned from."""
        settings = self.settings
        crop_px = max(stage.crop_px for stage in settings.stages)
        factor, kinds = settings.model.upscale_factor, list(settings.crops.values())[:1]
        return TrainingBatches(held_out, 1, crop_px, factor, kinds, VALIDATION_SEED)

    def _stage(
        self,
        settings: TrainingStage,
        model: nn.Module,
        critics: nn.Module | None,
        reporter: Reporter,
    ) -> Fit:
        average = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
        self.averaged.multi_avg_fn = average

        def after_step(step: int) -> None:
            self.averaged.update_parameters(self.model)
            due = step % self.settings.validation_every_steps == 0 or step == settings.steps
            if due and len(self.validation.photographs):
                reporter.done(self._validate(settings, step))

        tracked: dict[str, Stateful] = {
            "model": self.model,
            "averaged": self.averaged,
            "clock": self,
        }
        if self.critics is not None:
            tracked["critics"] = self.critics
        return Fit(
            name=settings.name,
            steps=settings.steps,
            objectives=self._objectives(settings, model, critics),
            tracked=tracked,
            accelerator=self.accelerator,
            file=self.folder / STATE_FILE,
            save_every_seconds=self.settings.save_every_seconds,
            after_step=after_step,
        )

    def _objectives(
        self, settings: TrainingStage, model: nn.Module, critics: nn.Module | None
    ) -> list[Objective]:
        losses = Losses(settings, model, critics, self.critics, self.accelerator)
        self.model.requires_grad_(False)
        generator = self._objective(
            "generator",
            [p for name, p in self.model.named_parameters() if _learns(name, settings)],
            losses.generator,
            cosine(
                settings.learning_rate,
                settings.final_learning_rate,
                settings.steps,
                settings.warmup_steps,
            ),
            settings.gradient_clip,
        )
        if not settings.criticized or self.critics is None:
            return [generator]
        rate = self.settings.critic_learning_rate
        learned = self.critics.learned()
        return [
            generator,
            self._objective("critics", learned, losses.discriminator, lambda step: rate),
        ]

    def _objective(
        self,
        name: str,
        learned: list[nn.Parameter],
        loss: Callable[[Batch], Tensor],
        rate: Callable[[int], float],
        gradient_clip: float = math.inf,
    ) -> Objective:
        adam = torch.optim.Adam(learned, lr=rate(0), betas=ADAM_BETAS, fused=True)
        optimizer: torch.optim.Optimizer = self.accelerator.prepare(adam)
        return Objective(name, learned, optimizer, loss, rate, gradient_clip)

    def _validate(self, stage: TrainingStage, step: int) -> Validation:
        averaged = cast(OneStepModel, self.averaged.module)
        natural = stage.natural is not None
        psnrs = mean_psnr(averaged, self.validation, self.accelerator, natural)
        scores = Validation(stage.name, step, self.state_dict()["seconds"] / 60, *psnrs)
        if self.accelerator.is_main_process:
            append_row(self.folder / CURVE_FILE, scores)
        return scores

    def state_dict(self) -> dict[str, float]:
        """The seconds spent so far, over all interruptions."""
        return {"seconds": self.spent_seconds + time.monotonic() - self.started}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on counting from an earlier run."""
        self.spent_seconds, self.started = state_dict["seconds"], time.monotonic()


def _learns(parameter: str, stage: TrainingStage) -> bool:
    return component_of(parameter) in stage.learns
