"""A model but for its weights: shapes, schedule, prediction, sources.

Imports no torch: reading a description must be instant.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

ColorFix = Literal["none", "adain", "wavelet"]
Realism = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=2)]
# Names become those of folders.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
# More of anything is no model that anybody has, but hours of work.
MOST_LEVELS, MOST_LAYERS, MOST_CHANNELS = 8, 16, 65_536
MOST_PIXELS_FOLDED = 64
MOST_MARGIN_PX = 1024
MOST_PLAIN_PX = 16
# What carries the image itself into the latent and out of it again, a tenth of `mini`'s operations
# and a thousandth of Stable Diffusion's: at 8 bits it costs more than all other layers together.
IMAGE_LAYERS = (
    *("vae.encoder.conv_in", "vae.encoder.conv_out", "vae.quant_conv"),
    *("vae.post_quant_conv", "vae.decoder.conv_in", "vae.decoder.conv_out"),
)


Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]


class Schedule(BaseModel):
    """The noise schedule a model was trained under, in diffusers' terms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta_schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    num_train_timesteps: PositiveInt = 1000


class DownloadSource(BaseModel):
    """One place a part of a model's weights can be had from.

    A `hub` location is a repository of the Hugging Face hub, a `url` one file; a `page` is where
    a person finds what cannot be fetched by itself. `sha256` and `bytes` are set where they are
    known for sure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hub", "url", "page"]
    location: str
    note: str = ""
    part: Literal["base", "adapters", "decoder"] = "base"
    sha256: str | None = None
    bytes: PositiveInt | None = None


class ModelDescription(BaseModel):
    """Everything needed to build and run a one-step super-resolution model, but its weights.

    `unet` and `vae` are the keyword arguments of diffusers' `UNet2DConditionModel` and
    `AutoencoderKL`. `patch_size` p folds p×p pixels into channels before the encoder and
    unfolds them after the decoder. `context_shape` is (tokens, width) of the constant
    context embedding that replaces a prompt. `prediction` says what the UNet predicts: the noise ε
    in z_L, the residual z_L − z_H, or z_H, the sample, itself.

    With `encoder` "unshuffle" z_L are the pixels of the LR image, folded into channels, and images
    are upscaled by repeating each pixel: the encoder takes one of each. `unet_kind` "unconditional"
    is a UNet that no timestep and no context reach (see `models.unconditional`).

    `realism` is the default setting of a model with a dial, in [0, 1]: its UNet has twice the
    latent's channels, first those of the faithful ε, then those of the natural ε (see
    `schedule.mix_heads`). None: no dial, and one ε. With `unets` 2 each ε is of a UNet of its own,
    and `pixel_strength` is λ_pix of PiSA-SR, by which it counts that of the faithful one.
    `decoder_channels` are those of the decoder's blocks where they are others than the VAE's, the
    block at the image first.
    `margin_px` pixels of the result beyond each border are computed too, of the mirrored image, and
    cut off: convolutions take what lies beyond an image for black or grey, which shows there.
    Where all pixels of the input up to `plain_px` away have one colour or are an even gradient,
    give or take a level, the result is the input enlarged (see `tiling.plain_areas`). 0: all of it
    is the network's.
    `left_out` names submodules of a `OneStepModel` that pass on what they get, as
    "vae.encoder.mid_block": they have no weights and cost nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    title: str
    licence: str
    unet: dict[str, Any]
    vae: dict[str, Any]
    schedule: Schedule = Schedule()
    timestep: int = Field(ge=0)
    prediction: Literal["noise", "residual", "sample"] = "noise"
    encoder: Literal["vae", "unshuffle"] = "vae"
    unet_kind: Literal["conditional", "unconditional"] = "conditional"
    realism: Realism | None = None
    unets: Literal[1, 2] = 1
    pixel_strength: Strength = 1.0
    decoder_channels: tuple[Channels, ...] = ()
    left_out: tuple[str, ...] = ()
    margin_px: int = Field(0, ge=0, le=MOST_MARGIN_PX)
    plain_px: int = Field(0, ge=0, le=MOST_PLAIN_PX)
    upscale_factor: int = Field(4, ge=1, le=MOST_PIXELS_FOLDED)
    patch_size: int = Field(1, ge=1, le=MOST_PIXELS_FOLDED)
    context_shape: tuple[Channels, Channels]
    color_fix: ColorFix = "none"
    sources: tuple[DownloadSource, ...] = ()

    @property
    def unit_px(self) -> int:
        """Pixels of the result after which both an LR pixel and a pixel of the smallest feature
        map begin: sides of tiles and crops are multiples."""
        return math.lcm(self.size_multiple_px, self.upscale_factor)

    @model_validator(mode="after")
    def _sizes_are_possible(self) -> ModelDescription:
        limits = {"layers_per_block": MOST_LAYERS, "block_out_channels": MOST_CHANNELS}
        networks = {"unet": self.unet, "vae": self.vae}
        for (name, network), (key, most) in itertools.product(networks.items(), limits.items()):
            found = network.get(key, 1)
            values = found if isinstance(found, (list, tuple)) else [found]
            sound = all(type(value) is int and 0 <= value <= most for value in values)
            if not sound or len(values) > MOST_LEVELS:
                raise ValueError(
                    f"{name}.{key} must be up to {MOST_LEVELS} whole numbers of at most "
                    f"{most}, found {str(found)[:60]}"
                )
        return self

    @model_validator(mode="after")
    def _decoder_has_the_vaes_levels(self) -> ModelDescription:
        groups, levels = (
            self.vae.get("norm_num_groups", 32),
            len(self.vae.get("block_out_channels", ())),
        )
        if not levels:
            raise ValueError("vae.block_out_channels is missing")
        for channels in self.decoder_channels:
            if len(self.decoder_channels) != levels or channels % groups:
                raise ValueError(
                    f"decoder_channels must be {levels} multiples of {groups}, found "
                    f"{list(self.decoder_channels)}"
                )
        return self

    @model_validator(mode="after")
    def _timestep_is_in_the_schedule(self) -> ModelDescription:
        if self.timestep >= self.schedule.num_train_timesteps:
            raise ValueError(
                f"timestep must be below {self.schedule.num_train_timesteps}, found {self.timestep}"
            )
        return self

    @model_validator(mode="after")
    def _heads_are_those_of_the_dial(self) -> ModelDescription:
        # diffusers' defaults are 4 for both.
        found = self.unet.get("out_channels", 4)
        if self.unets > self.heads:
            raise ValueError("unets must be 1 without a dial (realism), found 2")
        if self.unets == 1 and self.pixel_strength != 1:
            found = f"{self.pixel_strength:g}"
            raise ValueError(f"pixel_strength must be 1 without two UNets, found {found}")
        expected = self.heads // self.unets * self.vae.get("latent_channels", 4)
        if found != expected:
            dial = "without a dial" if self.realism is None else "with a dial (realism)"
            raise ValueError(
                f"unet.out_channels must be {expected} {dial}, {self.heads // self.unets} × the "
                f"latent's channels; found {found}"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_few_have(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Models that are older than these fields keep their manifests and fingerprints."""
        values: dict[str, Any] = dump(self)
        rare = ("unets", "pixel_strength", "decoder_channels", "margin_px", "plain_px")
        absent = {
            key
            for key in (*rare, "encoder", "unet_kind")
            if getattr(self, key) == type(self).model_fields[key].default
        }
        return {key: value for key, value in values.items() if key not in absent}

    @property
    def base(self) -> ModelDescription:
        """The base model it is made of: one UNet, no dial, and a decoder as wide as the encoder."""
        one = {"unets": 1, "realism": None, "pixel_strength": 1.0}
        changes: dict[str, Any] = one if self.unets == 2 else {}
        if self.decoder_channels:
            changes |= {"decoder_channels": (), "left_out": ()}
        return self.model_copy(update=changes)

    @property
    def hearing_both_ends(self) -> ModelDescription:
        """With a default at which both ε of a dial count: this one, or half-way if it is an end.

        Who learns from the default's images would learn nothing about the other end.
        """
        if self.realism in (None, 0, self.pixel_strength):
            halfway = None if self.realism is None else self.pixel_strength / 2
            return self.model_copy(update={"realism": halfway})
        return self

    @property
    def heads(self) -> int:
        """Count of ε that the UNet predicts: two with a dial, the faithful and the natural one."""
        return 1 if self.realism is None else 2

    @property
    def latent_factor(self) -> int:
        """Image pixels along one side of a latent pixel."""
        return int(self.patch_size * 2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def size_multiple_px(self) -> int:
        """The upscaled image's sides must be multiples of this, so that every halving is even."""
        return int(self.latent_factor * 2 ** (len(self.unet["block_out_channels"]) - 1))
