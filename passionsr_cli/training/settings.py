"""How a model is trained. Imports no torch."""

from __future__ import annotations

import math
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
from passionsr_cli.registry import ModelDescription


class TrainingStage(Settings):
    """A part of the training with its own crops, learning rate and losses.

    `share_in_result` mixes the weights as this stage left them into the final ones: the more
    of a stage without adversarial loss, the more faithful and the less sharp the result
    (network interpolation, ESRGAN, arXiv 1809.00219, section 3.4). The last stage has the rest.
    """

    name: str
    steps: PositiveInt
    batch_size: PositiveInt = 16
    crop_px: PositiveInt = 128
    learning_rate: float
    final_learning_rate: float
    warmup_steps: NonNegativeInt = 0
    pixel_weight: float = 1.0
    adversarial_weight: float = 0.0
    ema_decay: float = 0.999
    gradient_clip: float = 1.0
    share_in_result: float = Field(0.0, ge=0, le=1)


class TrainingSettings(Settings):
    """How `passionsr train` makes a model from photographs."""

    model: ModelDescription
    degradation: DegradationSettings = DegradationSettings()
    stages: tuple[TrainingStage, ...] = Field(min_length=1)
    discriminator_channels: PositiveInt = 48
    discriminator_learning_rate: float = 2e-4
    validation_photos: NonNegativeInt = 16
    validation_every_steps: PositiveInt = 500
    save_every_seconds: PositiveInt = 45
    workers: NonNegativeInt = 1
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _stages_fit_the_model(self) -> TrainingSettings:
        unit_px = math.lcm(self.model.size_multiple_px, self.model.upscale_factor)
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need different names, found {', '.join(names)}")
        if sum(stage.share_in_result for stage in self.stages) > 1:
            raise ValueError("the stages' share_in_result add up to more than 1")
        for stage in self.stages:
            if stage.crop_px % unit_px:
                raise ValueError(
                    f"stage '{stage.name}': crop_px must be a multiple of {unit_px}, "
                    f"found {stage.crop_px}"
                )
        return self


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
    """How `passionsr train --from` moves a model to another timestep.

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
