"""The models we know, each described completely: numbers here, never constants in code.

Imports no torch: listing models must be instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

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


class Registered(NamedTuple):
    """The registered models, the embedded one aside, by their names; `faults` says of those whose
    file is no recipe why not."""

    recipes: dict[str, Recipe]
    descriptions: dict[str, ModelDescription]
    faults: dict[str, str]


def _paths(folder: str) -> dict[str, Path]:
    """The package's YAML files in a folder of configurations, by their names."""
    return {path.stem: path for path in sorted((configs_folder() / folder).glob("*.yaml"))}


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected 'key: value' lines")
    return content


@cache
def _bases() -> dict[str, dict[str, Any]]:
    """Base models' shapes and where their weights are, as values of a `ModelDescription`."""
    return {name: _content(path) for name, path in _paths("models/bases").items()}


@cache
def _registered() -> Registered:
    found, paths = Registered({}, {}, {}), _paths("models")

    def describe_all(chain: tuple[str, ...]) -> ModelDescription:
        """The last model of a chain in which each is like the next; what it is like comes first."""
        name = chain[-1]
        if name in found.descriptions:
            return found.descriptions[name]
        path = paths[name]
        try:
            recipe = Recipe.model_validate(_content(path))
            like = recipe.like
            if like in _bases():
                below = _bases()[like]
            elif like in chain:
                raise ModelError(f"{path}: like: {' → '.join((*chain, like))} is a circle")
            elif like in paths:
                below = dict(describe_all((*chain, like)))
            else:
                raise ModelError(f"{path}: like: {_unknown(like, (*paths, *_bases()))}")
            described = ModelDescription.model_validate(recipe.values(name, below))
        except ValidationError as error:
            raise ModelError(f"{path}: {first_fault(error)}") from None
        found.recipes[name], found.descriptions[name] = recipe, described
        return described

    for name in paths:
        try:
            describe_all((name,))
        except ModelError as error:
            found.faults[name] = str(error)
    return found


def registered_recipes() -> dict[str, Recipe]:
    """Recipes of the registered models, the embedded one aside."""
    return _registered().recipes


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"unknown model '{name}'{suggestion(name, known)}"


def model_names() -> tuple[str, ...]:
    """Names of all registered models, the embedded one first, also of those that have a fault."""
    return (EMBEDDED_MODEL, *sorted((*_registered().descriptions, *_registered().faults)))


def describe(name: str) -> ModelDescription:
    """The description of a registered model."""
    if name == EMBEDDED_MODEL:
        return read_description(EMBEDDED_FOLDER)
    registered = _registered()
    if name in registered.faults:
        raise ModelError(registered.faults[name])
    if name not in registered.descriptions:
        raise ModelError(_unknown(name, model_names()))
    return registered.descriptions[name]


def values_of(like: str) -> Mapping[str, Any]:
    """Values of what a recipe may be like: the shape of a base, or a registered model."""
    if like in _bases():
        return _bases()[like]
    known = tuple(name for name in model_names() if name != EMBEDDED_MODEL)
    if like not in known:
        raise ModelError(_unknown(like, (*known, *_bases())))
    return dict(describe(like))


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
