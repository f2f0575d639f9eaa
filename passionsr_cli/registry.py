"""The models we know, each described completely: numbers here, never constants in code.

Imports no torch: listing models must be instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from passionsr_cli.description import (
    Channels,
    ColorFix,
    DownloadSource,
    ModelDescription,
    Realism,
    Strength,
)
from passionsr_cli.errors import ModelError
from passionsr_cli.system.files import read_json
from passionsr_cli.system.paths import configs_folder
from passionsr_cli.system.text import first_fault, suggestion

EMBEDDED_MODEL = "mini"
EMBEDDED_FOLDER = Path(__file__).parent / "models" / EMBEDDED_MODEL
# The embedded model on integers: what a CPU runs unless told otherwise.
EMBEDDED_CHECKPOINT = f"{EMBEDDED_MODEL}-w8a8"
EMBEDDED_CHECKPOINT_FOLDER = Path(__file__).parent / "models" / EMBEDDED_CHECKPOINT
MANIFEST_FILE = "manifest.json"


class Recipe(BaseModel):
    """Recipe of a model: how it differs from what it is `like`.

    That is a registered model or a base (see `values_of`).

    `lora_alpha` is that of adapters whose files do not say it; None is their rank. `adapts` are the
    parts that its adapters change, neither more nor fewer; empty is any. `sources` are those of the
    adapters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    like: str
    title: str | None = None
    licence: str | None = None
    timestep: int | None = Field(None, ge=0)
    prediction: Literal["noise", "residual"] | None = None
    realism: Realism | None = None
    unets: Literal[1, 2] | None = None
    pixel_strength: Strength | None = None
    decoder_channels: tuple[Channels, ...] | None = None
    left_out: tuple[str, ...] | None = None
    color_fix: ColorFix | None = None
    lora_alpha: float | None = Field(None, gt=0)
    adapts: tuple[Literal["unet", "vae"], ...] = ()
    sources: tuple[DownloadSource, ...] = ()

    def values(self, name: str, below: Mapping[str, Any]) -> dict[str, Any]:
        """Values of a `ModelDescription`, not validated: those of what it is like, and its own."""
        of_adapters = {"lora_alpha", "adapts", "sources"}
        own = self.model_dump(exclude_none=True, exclude={"like", *of_adapters})
        sources = [DownloadSource.model_validate(source) for source in below["sources"]]
        base = [source for source in sources if source.part == "base"]
        return {**below, **own, "name": name, "sources": (*base, *self.sources)}


def _files(folder: str) -> dict[str, Any]:
    """Contents of the package's YAML files in a folder of configurations, by their names."""
    paths = {path.stem: path for path in (configs_folder() / folder).glob("*.yaml")}
    return {name: yaml.safe_load(paths[name].read_text(encoding="utf-8")) for name in sorted(paths)}


@cache
def _bases() -> dict[str, dict[str, Any]]:
    """Base models' shapes and where their weights are, as values of a `ModelDescription`."""
    return _files("models/bases")


@cache
def registered_recipes() -> dict[str, Recipe]:
    """Recipes of the registered models, the embedded one aside, in the order of their names."""
    return {name: Recipe.model_validate(held) for name, held in _files("models").items()}


@cache
def _registered() -> dict[str, ModelDescription]:
    """The models of these recipes."""
    return {
        name: ModelDescription.model_validate(recipe.values(name, _bases()[recipe.like]))
        for name, recipe in registered_recipes().items()
    }


def model_names() -> tuple[str, ...]:
    """Names of all registered models, the embedded one first."""
    return (EMBEDDED_MODEL, *_registered())


def describe(name: str) -> ModelDescription:
    """The description of a registered model."""
    if name == EMBEDDED_MODEL:
        return read_description(EMBEDDED_FOLDER)
    if name in _registered():
        return _registered()[name]
    raise ModelError(f"unknown model '{name}'{suggestion(name, model_names())}")


def values_of(like: str) -> Mapping[str, Any]:
    """Values of what a recipe may be like: the shape of a base, or a registered model."""
    if like in _bases():
        return _bases()[like]
    if like not in _registered():
        raise ModelError(f"unknown model '{like}'{suggestion(like, (*_registered(), *_bases()))}")
    return dict(_registered()[like])


def read_description(folder: Path) -> ModelDescription:
    """The description in the manifest of a model folder."""
    path = folder / MANIFEST_FILE
    try:
        manifest = read_json(path)
        return ModelDescription.model_validate(manifest["description"])
    except FileNotFoundError:
        raise ModelError(f"{folder} holds no model: {MANIFEST_FILE} is missing there") from None
    except ValidationError as error:
        raise ModelError(f"{path} does not describe a model: {first_fault(error)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} does not describe a model: {error}") from error
