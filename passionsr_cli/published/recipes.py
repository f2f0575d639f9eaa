"""Recipes: what makes a one-step model of a base model, by a registered name or a small file."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import isfile

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.layering import settings_from, validate
from passionsr_cli.registry import (
    EMBEDDED_MODEL,
    Recipe,
    describe,
    model_names,
    registered_recipes,
    values_of,
)
from passionsr_cli.system.text import suggestion

DEFAULT_RECIPE = "passionsr-fp"


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe as it was found: the model it makes, and what it says of adapters (see
    `registry.Recipe`)."""

    description: ModelDescription
    lora_alpha: float | None
    adapts: tuple[str, ...]


def find_recipe(recipe: str | None, name: str) -> FoundRecipe:
    """The recipe to make the model `name` by.

    `recipe` is a registered name or a YAML file of a `Recipe`; without one it is the registered
    model of this name, else PassionSR-FP.
    """
    chosen = recipe or (name if name in recipe_names() else DEFAULT_RECIPE)
    if chosen in recipe_names():
        described, known = describe(chosen), registered_recipes()[chosen]
        return FoundRecipe(described, known.lora_alpha, known.adapts)
    if not isfile(chosen):
        others = suggestion(chosen, recipe_names())
        raise ConfigError(f"no recipe '{chosen}': neither a file nor a model's{others}")
    given = settings_from([{"like": DEFAULT_RECIPE}, chosen], Recipe)
    try:
        values = given.values(name, values_of(given.like))
    except ModelError as error:
        raise ConfigError(f"{chosen}: like: {error}") from error
    # Validated anew: a copy with changes would not be.
    made = validate(values, ModelDescription, chosen)
    return FoundRecipe(made, given.lora_alpha, given.adapts)


def recipe_names() -> tuple[str, ...]:
    """Registered models that are made of a base model."""
    return tuple(name for name in model_names() if name != EMBEDDED_MODEL)


def check_pullable(model: str) -> None:
    """Refuse a model that cannot be fetched."""
    if model not in recipe_names():
        raise ModelError(f"'{model}' cannot be pulled{suggestion(model, recipe_names())}")
