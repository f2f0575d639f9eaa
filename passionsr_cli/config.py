"""Settings read from files: typed, frozen, and refusing what they do not know. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from passionsr_cli.bits import EIGHT_BITS, Bits, bits_name
from passionsr_cli.budget import BudgetText
from passionsr_cli.description import IMAGE_LAYERS, ColorFix, Realism
from passionsr_cli.system.paths import name_of

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Backend = Literal["auto", "torch", "openvino", "onnxruntime", "triton"]
Fit = Literal["contain", "cover", "fill"]
Quality = Annotated[int, Field(ge=1, le=100)]
Probability = Annotated[float, Field(ge=0, le=1)]
PartName = Literal["transform", "bounds", "weight_bounds", "branch", "merged", "rounding"]

KernelKind = Literal["isotropic", "anisotropic", "generalized", "plateau", "disk", "motion"]
KERNEL_KINDS: dict[KernelKind, float] = {"isotropic": 0.45, "anisotropic": 0.25}
KERNEL_KINDS |= {"generalized": 0.12, "plateau": 0.06, "disk": 0.08, "motion": 0.04}


def _weighing_something(weights: dict[KernelKind, float]) -> dict[KernelKind, float]:
    if not sum(weights.values()):
        raise ValueError("no kind weighs anything; give one of them a number above 0")
    return weights


Range = tuple[NonNegativeFloat, NonNegativeFloat]
KernelKinds = Annotated[dict[KernelKind, NonNegativeFloat], AfterValidator(_weighing_something)]
# Those of PassionSR, and what reads the image and the latents, the only way into the network.
EIGHT_BIT_LAYERS = (
    *("unet.time_embedding.linear_1", "unet.conv_in", "unet.conv_out"),
    *("vae.quant_conv", "vae.post_quant_conv"),
    *("vae.encoder.conv_in", "vae.encoder.conv_out", "vae.decoder.conv_in", "vae.decoder.conv_out"),
)
# PassionSR's own, which the preset `published-exceptions` names.
PUBLISHED_EIGHT_BIT_LAYERS = tuple(name for name in EIGHT_BIT_LAYERS if "conv_in" not in name)


def _checked_name(template: str) -> str:
    # Written as the end of a name it is a suffix, with or without its dot.
    template = re.sub(r"(?<=[^._\- ])\{ext\}$", ".{ext}", template)
    rest = re.sub(r"\{(stem|ext|scale|model)\}", "", template)
    if "{stem}" not in template or not set("{}/\\").isdisjoint(rest):
        raise ValueError(
            f"'{template}' is no name; it needs {{stem}} and takes {{ext}}, {{scale}} and {{model}}"
        )
    return template


def _checked_tile(value: object) -> object:
    text = str(value)
    if text != "auto" and not text.isdecimal():
        raise ValueError(f"'{text}' is no size; write auto, or pixels of the result, 0: no tiles")
    return text if text == "auto" else int(text)


def _factor(value: object) -> object:
    """The number of 2x, x2 or ×2."""
    return value.strip("x×X ") if isinstance(value, str) else value


def listed(value: object) -> object:
    """The items of 'one,two'; what is no text stays as it is."""
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else value


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


# What may be written as 'one,two'.
Listed = BeforeValidator(listed)
Tile = Annotated[int | Literal["auto"], BeforeValidator(_checked_tile)]


class Settings(BaseModel):
    """Base of everything that can stand in a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("model", "checkpoint", "dataset", mode="before", check_fields=False)
    @classmethod
    def _texts_of_paths(cls, value: object) -> object:
        """Texts for paths: what has a name may be a folder of one's own, too."""
        if isinstance(value, list | tuple):
            return [cls._texts_of_paths(item) for item in value]
        return str(value) if isinstance(value, PurePath) else value


class UpscaleSettings(Settings):
    """The options of `passionsr upscale`: without a model or a checkpoint the embedded model is
    used, and pixels are those of the upscaled image.

    `realism` is for models with a dial: 0 is faithful, 1 invents detail, None their default.
    `name` is what results are called: {stem} and {ext} are of the input, {scale}, such as x4, and
    {model} of what is done to it. `format` is that of results whose name does not say it, same
    that of the input, and `quality` that of JPEG, WebP, AVIF and HEIC.
    """

    model: str | None = None
    checkpoint: str | None = None
    output: Path | None = None
    name: Annotated[str, AfterValidator(_checked_name)] = "{stem}_{scale}"
    recursive: bool = True
    overwrite: bool = False
    skip_existing: bool = False
    engine: Literal["local", "ray"] = "local"
    device: str = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    tile: Tile = "auto"
    overlap: NonNegativeInt = 48
    color_fix: ColorFix | None = None
    realism: Realism | None = None
    scale: Annotated[float | None, BeforeValidator(_factor), Field(ge=1, le=8)] = None
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    fit: Fit = "contain"
    format: Literal["same", "png", "jpg", "webp", "tiff", "avif"] | None = None
    quality: Quality | None = None
    depth: Annotated[Literal["auto", 8, 16], BeforeValidator(_number)] = "auto"
    strip_metadata: bool = False

    # What one of them, given as an option, takes out of a file.
    excluding: ClassVar[dict[str, set[str]]] = {
        "scale": {"width", "height", "fit"},
        "width": {"scale"},
        "height": {"scale"},
        "overwrite": {"skip_existing"},
        "skip_existing": {"overwrite"},
    }

    @model_validator(mode="after")
    def _nothing_contradicts(self) -> UpscaleSettings:
        if self.scale is not None and (self.width or self.height):
            raise ValueError("scale and width or height: give one of them")
        if self.overwrite and self.skip_existing:
            raise ValueError("--overwrite and --skip-existing exclude each other: give one of them")
        if self.fit != "contain" and not (self.width and self.height):
            raise ValueError(f"fit {self.fit} needs width and height")
        return self


class DegradationSettings(Settings):
    """Degradation of a photograph on its way to a low-resolution image.

    Lengths are pixels of the image they are applied to, noise is on the [0, 1] scale.
    `sharpening` is how much of an unsharp mask cameras add, which leaves light and dark rims.
    """

    blur_probability: Probability = 0.85
    blur_sigma_px: Range = (0.3, 2.4)
    kernel_kinds: KernelKinds = KERNEL_KINDS
    second_order_probability: Probability = 0.25
    second_blur_sigma_px: Range = (0.2, 0.8)
    intermediate_scale: Range = (0.4, 1.0)
    noise_probability: Probability = 0.5
    shot_noise: Range = (0.0, 0.0004)
    read_noise: Range = (0.0, 0.012)
    grey_noise_probability: Probability = 0.4
    sharpening_probability: Probability = 0.0
    sharpening: Range = (0.3, 1.5)
    sharpening_sigma_px: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.5)
    jpeg_probability: Probability = 0.4
    jpeg_quality: tuple[Quality, Quality] = (60, 96)


class CalibrationSettings(Settings):
    """Settings of `passionsr calibrate`, which turns a model into a checkpoint.

    `eight_bit_layers` keep at least 8 bits wherever their component is quantized at all: those of
    PassionSR, and what reads the image and the latents.
    `float_layers` are not quantized: by default, at all widths, those that carry the image. With a
    `budget` the bits of each layer are chosen by what they cost in quality, but for sides that
    `unet` or `vae` leave at 16 bits. `layer_bits`, as w4a8 by a layer's name, w4a8r16 where it has
    a branch, and a8 by an attention's, come before all of these.
    Bounds start from the extremes of `observing_batch_size` images at a time, averaged.
    `weights` auto is symmetric at 8 bits, which integer kernels need, and asymmetric below; those
    behind an upsampling have 6 bits at most, symmetric ones, see `allocation.layer_plans`.
    `strict` refuses a substitute for a loss whose weights are not on this machine.
    `method_settings` holds, under each method's name, what it is told: `passionsr_cli/methods`.
    `calibrate` starts and learns bits of at most 4 as their presets do, and a budget decides about
    `float_layers` too, where these settings do not say otherwise: as the command does.
    """

    model: str = "mini"
    method: str = "passionsr"
    method_settings: dict[str, dict[str, Any]] = {}
    unet: Bits = EIGHT_BITS
    vae: Bits = EIGHT_BITS
    eight_bit_layers: tuple[str, ...] = EIGHT_BIT_LAYERS
    float_layers: tuple[str, ...] = IMAGE_LAYERS
    budget: BudgetText | None = None
    layer_bits: dict[str, Bits] = {}
    weights: Literal["auto", "symmetric", "asymmetric"] = "auto"
    weight_grids: Literal["channel", "tensor"] = "channel"
    activations: Literal["symmetric", "asymmetric"] = "asymmetric"
    images: Path | None = None
    image_kind: Literal["auto", "hr", "lr"] = "auto"
    crops: Annotated[PositiveInt, Field(le=100_000)] = 32
    crop_px: Annotated[PositiveInt, Field(le=16_384)] = 512
    degradation: DegradationSettings = DegradationSettings()
    batch_size: PositiveInt = 1
    observing_batch_size: PositiveInt = 4
    gradient_checkpointing: bool = False
    save_every_seconds: PositiveInt = 45
    strict: bool = False
    seed: NonNegativeInt = 0
    device: str = "auto"
    precision: Precision = "auto"

    @property
    def bits_name(self) -> str:
        """'w6a6', 'unet-w6a6-vae-w8a8' where the components differ, or the budget: '7MB'."""
        return bits_name(self.unet, self.vae) if self.budget is None else self.budget.name

    def default_name(self, bits: str = "") -> str:
        """Default name of a checkpoint, MODEL-BITS-METHOD, or with other words for the bits."""
        bits = re.sub(r"[^A-Za-z0-9._-]+", "-", bits or self.bits_name)
        return f"{name_of(self.model)}-{bits}-{self.method}"

    @model_validator(mode="after")
    def _something_is_quantized(self) -> CalibrationSettings:
        if self.unet.floating and self.vae.floating:
            raise ValueError("nothing would be quantized; give the UNet or the VAE fewer bits")
        if self.unet.rank is not None or self.vae.rank is not None:
            raise ValueError("r16 stands in layer_bits; of all layers write method_settings: ranks")
        return self


class FitSettings(Settings):
    """One optimisation of a calibration: how long, how fast, and how the learning rate falls.

    `sgd` has momentum 0.9. `cosine` falls to `final_learning_rate`; `milestones` multiplies the
    rate by `decay` after each of these shares of the steps, 0.5 for half of them. `rates`
    multiplies the rate of single parts, see `quantization.schemes.Learnable`.
    """

    steps: PositiveInt
    learning_rate: PositiveFloat
    rates: dict[PartName, PositiveFloat] = {}
    optimizer: Literal["adam", "sgd"] = "adam"
    schedule: Literal["cosine", "milestones"] = "cosine"
    final_learning_rate: NonNegativeFloat = 0.0
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5,)
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    gradient_clip: PositiveFloat = 1.0
