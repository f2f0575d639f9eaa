"""Settings of retraining at another timestep. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from passionsr_cli.config import DegradationSettings, Settings


class RetrainingStage(Settings):
    """A part of the retraining: crops, learning rate, and what comes near what.

    `latent` compares z_H, `image` what the decoder makes of it, which costs its passes too.
    """

    name: str
    target: Literal["latent", "image"]
    steps: PositiveInt
    batch_size: PositiveInt = 4
    crop_px: PositiveInt = 256
    learning_rate: PositiveFloat
    final_learning_rate: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    gradient_clip: PositiveFloat = 1.0


class RetrainingSettings(Settings):
    """Settings of `passionsr train --from`, which moves a model to another timestep.

    The teacher of the images is the `model` at its own timestep, or `hr`, the photographs; that of
    latents is always the model. Every convolution and linear layer of `components` learns a
    product of rank `lora_rank`.
    """

    model: str
    timestep: NonNegativeInt
    teacher: Literal["model", "hr"] = "model"
    lora_rank: PositiveInt = 32
    components: tuple[Literal["encoder", "unet"], ...] = Field(("unet",), min_length=1)
    degradation: DegradationSettings = DegradationSettings()
    stages: tuple[RetrainingStage, ...] = Field(min_length=1)
    validation_crops: PositiveInt = 8
    validation_every_steps: PositiveInt = 100
    save_every_seconds: PositiveInt = 45
    workers: NonNegativeInt = 0
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _stages_can_be(self) -> RetrainingSettings:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need different names, found {', '.join(names)}")
        if self.teacher == "hr" and all(stage.target == "latent" for stage in self.stages):
            raise ValueError("teacher hr needs a stage whose target is 'image'")
        return self
