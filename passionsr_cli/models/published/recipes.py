"""Recipes: what makes a one-step model of a base model, by a registered name or a small file."""

from __future__ import annotations

from os.path import isfile
from typing import Literal

from pydantic import NonNegativeInt

from passionsr_cli.config import Settings
from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.layering import settings_from, validate
from passionsr_cli.registry import EMBEDDED_MODEL, ColorFix, ModelDescription, describe, model_names
from passionsr_cli.system.text import suggestion

DEFAULT_RECIPE = "passionsr-fp"


class Recipe(Settings):
    """A model that differs from a registered one, `like`, in what is given here."""

    like: str = DEFAULT_RECIPE
    title: str | None = None
    licence: str | None = None
    timestep: NonNegativeInt | None = None
    prediction: Literal["noise", "residual"] | None = None
    color_fix: ColorFix | None = None


def find_recipe(recipe: str | None, name: str) -> ModelDescription:
    """The description to make the model `name` by.

    `recipe` is a registered name or a YAML file of a `Recipe`; without one it is the registered
    model of this name, else PassionSR-FP.
    """
    chosen = recipe or (name if name in recipe_names() else DEFAULT_RECIPE)
    if chosen in recipe_names():
        return describe(chosen)
    if not isfile(chosen):
        known = suggestion(chosen, recipe_names())
        raise ConfigError(f"no recipe '{chosen}': neither a file nor a model's{known}")
    given = settings_from(chosen, Recipe)
    changes = {**given.model_dump(exclude_none=True, exclude={"like"}), "sources": ()}
    try:
        below = describe(given.like)
        # Validated anew: a copy with changes would not be.
        return validate({**below.model_dump(), **changes}, ModelDescription, chosen)
    except ModelError as error:
        raise ConfigError(f"{chosen}: like: {error}") from error


def recipe_names() -> tuple[str, ...]:
    """Registered models that are made of a base model."""
    return tuple(name for name in model_names() if name != EMBEDDED_MODEL)


def check_pullable(model: str) -> None:
    """Refuse a model that cannot be fetched."""
    if model not in recipe_names():
        raise ModelError(f"'{model}' cannot be pulled{suggestion(model, recipe_names())}")
