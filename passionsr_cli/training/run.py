"""Training a one-step model from scratch, end to end from degraded photographs."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from passionsr_cli import __version__
from passionsr_cli.atomic import replace_atomically
from passionsr_cli.config import TrainingSettings, TrainingStage
from passionsr_cli.errors import ConfigError, ImageError, StoreError
from passionsr_cli.fitting.loop import Batch, Objective, Progress, Stage, Stateful, cosine
from passionsr_cli.imaging.planning import find_images
from passionsr_cli.imaging.resampling import bicubic
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.models.sources import KIND, save
from passionsr_cli.registry import model_names
from passionsr_cli.store import Entry, Store, home
from passionsr_cli.training.discriminator import PatchDiscriminator
from passionsr_cli.training.initialisation import start_as_interpolator
from passionsr_cli.training.photographs import CropBatches, Photographs, stream

STATE_FILE = "training.pt"
CURVE_FILE = "curve.csv"
SETTINGS_FILE = "settings.json"
VALIDATION_SEED = 1_000_000
ADAM_BETAS = (0.9, 0.99)


def train_model(
    settings: TrainingSettings,
    photos: Path,
    name: str,
    accelerator: Accelerator,
    on_step: Callable[[Progress], None],
    on_validation: Callable[[Validation], None],
) -> Entry:
    """Train on the photographs of a folder and write the result into the store as `name`.

    The unfinished run lives in the user's data directory under `training/NAME`; the same call
    takes it up again, a call with other settings is refused.
    """
    store = Store(KIND)
    if store.exists(name) or name in model_names():
        raise StoreError(f"a model named '{name}' exists already; choose another --name")
    if not photos.is_dir():
        raise ImageError(f"{photos}: no such folder; --photos names a folder of photographs")
    folder = home() / "training" / store.folder(name).name
    trainer = Trainer(settings, find_images(photos), folder, accelerator)
    _claim(folder, settings)
    model = trainer.run(on_step, on_validation)
    curve = (folder / CURVE_FILE).read_text(encoding="utf-8") if settings.validation_photos else ""
    entry = save(
        store.folder(name),
        model,
        {
            "training": settings.model_dump(mode="json", exclude={"model"}),
            "photographs": len(trainer.photographs),
            "curve": list(csv.DictReader(curve.splitlines())),
            "versions": {"passionsr": __version__, "torch": str(torch.__version__)},
        },
    )
    shutil.rmtree(folder)
    return entry


def _claim(folder: Path, settings: TrainingSettings) -> None:
    """Note the settings of a new run, or compare them with those of the run that is there."""
    path, wanted = folder / SETTINGS_FILE, settings.model_dump_json(indent=2)
    if path.exists() and path.read_text(encoding="utf-8") != wanted:
        raise ConfigError(
            f"{folder} holds an unfinished training with other settings; "
            "finish it with those, choose another --name, or delete that folder"
        )
    with replace_atomically(path) as temporary:
        temporary.write_text(wanted, encoding="utf-8")


@dataclass(frozen=True)
class Validation:
    """Scores on photographs the training never saw, of the EMA weights and of bicubic."""

    stage: str
    step: int
    minutes: float
    psnr: float
    bicubic_psnr: float


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
        self.validation = CropBatches(
            Photographs(held_out),
            1,
            max(stage.crop_px for stage in settings.stages),
            settings.model.upscale_factor,
            settings.degradation,
            VALIDATION_SEED,
        )
        self.photographs = Photographs([photo for photo in photos if photo not in held_out])
        torch.manual_seed(settings.seed)
        self.model = _fresh_model(settings).to(accelerator.device)
        self.discriminator = PatchDiscriminator(settings.discriminator_channels)
        self.discriminator.to(accelerator.device).to(memory_format=torch.channels_last)
        self.averaged = AveragedModel(self.model)
        self.started = time.monotonic()
        self.spent_seconds = 0.0

    def run(
        self, report: Callable[[Progress], None], validated: Callable[[Validation], None]
    ) -> OneStepModel:
        """Train through all stages and return the model with its averaged weights."""
        saved = self._saved()
        names = [stage.name for stage in self.settings.stages]
        first = names.index(saved["stage"]) if saved else 0
        wrapped = self.accelerator.prepare(self.model)
        critic = self.accelerator.prepare(self.discriminator)
        for index, settings in enumerate(self.settings.stages[first:], first):
            stage = self._stage(settings, wrapped, critic, validated)
            if saved:
                stage.resume(saved)
                saved = None
            processes = self.accelerator.num_processes
            batches = CropBatches(
                self.photographs,
                settings.batch_size,
                settings.crop_px,
                self.settings.model.upscale_factor,
                self.settings.degradation,
                self.settings.seed + index,
            )
            stage.run(
                stream(
                    batches,
                    stage.step * processes + self.accelerator.process_index,
                    settings.steps * processes,
                    processes,
                    self.settings.workers,
                ),
                report,
            )
        return cast(OneStepModel, self.averaged.module)

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
        self.averaged.multi_avg_fn = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
        device = self.accelerator.device

        def restore(batch: Batch) -> None:
            batch["hr"], lr = batch["hr"].to(device), batch["lr"].to(device)
            size = (batch["hr"].shape[-2], batch["hr"].shape[-1])
            batch["upscaled"] = bicubic(lr, size).clamp(0, 1)
            batch["restored"] = model(batch["upscaled"])

        def generator_loss(batch: Batch) -> Tensor:
            restore(batch)
            loss = settings.pixel_weight * F.l1_loss(batch["restored"], batch["hr"])
            if settings.adversarial_weight:
                logits = critic(batch["restored"], batch["upscaled"])
                loss = loss - settings.adversarial_weight * logits.mean()
            return loss

        def discriminator_loss(batch: Batch) -> Tensor:
            # Hinge loss (arXiv 1705.02894).
            real = critic(batch["hr"], batch["upscaled"])
            fake = critic(batch["restored"].detach(), batch["upscaled"])
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

        objectives = [
            Objective(
                "generator",
                [model],
                _adam(model, settings.learning_rate, self.accelerator),
                generator_loss,
                cosine(
                    settings.learning_rate,
                    settings.final_learning_rate,
                    settings.steps,
                    settings.warmup_steps,
                ),
                settings.gradient_clip,
            )
        ]
        if settings.adversarial_weight:
            rate = self.settings.discriminator_learning_rate
            objectives.append(
                Objective(
                    "discriminator",
                    [critic],
                    _adam(critic, rate, self.accelerator),
                    discriminator_loss,
                    lambda step: rate,
                )
            )

        def after_step(step: int) -> None:
            self.averaged.update_parameters(self.model)
            if step % self.settings.validation_every_steps == 0 or step == settings.steps:
                validated(self._validate(settings.name, step))

        tracked: dict[str, Stateful] = {
            "model": self.model,
            "averaged": self.averaged,
            "discriminator": self.discriminator,
            "clock": self,
        }
        return Stage(
            name=settings.name,
            steps=settings.steps,
            objectives=objectives,
            tracked=tracked,
            accelerator=self.accelerator,
            file=self.folder / STATE_FILE,
            save_every_seconds=self.settings.save_every_seconds,
            after_step=after_step,
        )

    def state_dict(self) -> dict[str, float]:
        """The seconds spent so far, over all interruptions."""
        return {"seconds": self.spent_seconds + time.monotonic() - self.started}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.spent_seconds = state_dict["seconds"]
        self.started = time.monotonic()

    @torch.no_grad()
    def _validate(self, stage: str, step: int) -> Validation:
        model, device = self.averaged.module, self.accelerator.device
        ours, plain = [], []
        for index in range(len(self.validation.photographs)):
            batch = self.validation[index]
            hr = batch["hr"].to(device)
            upscaled = bicubic(batch["lr"].to(device), (hr.shape[-2], hr.shape[-1])).clamp(0, 1)
            with self.accelerator.autocast():
                restored = model(upscaled)
            ours.append(_psnr(restored, hr))
            plain.append(_psnr(upscaled, hr))
        scores = Validation(
            stage, step, self.state_dict()["seconds"] / 60, _mean(ours), _mean(plain)
        )
        if self.accelerator.is_main_process:
            _append_row(self.folder / CURVE_FILE, scores)
        return scores


def _fresh_model(settings: TrainingSettings) -> OneStepModel:
    model = OneStepModel(settings.model)
    start_as_interpolator(model)
    return model.to(memory_format=torch.channels_last)


def _adam(module: nn.Module, rate: float, accelerator: Accelerator) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(module.parameters(), lr=rate, betas=ADAM_BETAS, fused=True)
    prepared: torch.optim.Optimizer = accelerator.prepare(optimizer)
    return prepared


def _psnr(image: Tensor, reference: Tensor) -> float:
    return float(-10 * F.mse_loss(image.clamp(0, 1), reference).log10())


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _append_row(path: Path, scores: Validation) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(list(vars(scores)))
        writer.writerow(
            [
                value if not isinstance(value, float) else f"{value:.4f}"
                for value in vars(scores).values()
            ]
        )
