"""A registered model from the places it is published at."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from passionsr_cli.errors import ModelError
from passionsr_cli.models.published.adding import Parts, add_model, check_name
from passionsr_cli.models.published.downloads import Downloader
from passionsr_cli.models.published.recipes import recipe_names
from passionsr_cli.registry import describe
from passionsr_cli.store import Entry
from passionsr_cli.system.paths import home


class Listener(Protocol):
    """Who hears of a download."""

    def note(self, text: str) -> None: ...

    def bytes(self, name: str, done: int, size: int) -> None: ...


def pull_model(
    model: str,
    name: str,
    source: str | None,
    adapters: str | None,
    context: Path | None,
    overwrite: bool,
    listener: Listener,
) -> Entry:
    """Fetch the parts of a registered model and keep it in the store as `name`.

    `source` (base weights) and `adapters` replace the registered places. What was fetched stays
    in the caches, so that a command that failed goes on where it stopped.
    """
    if model not in recipe_names():
        raise ModelError(f"'{model}' cannot be pulled; {', '.join(recipe_names())} can")
    description = describe(model)
    check_name(name, overwrite)
    listener.note(f"{description.title}; licence: {description.licence}")
    fetch = Downloader(home() / "downloads", listener.note, listener.bytes)
    # The small file comes first: without it the large ones are of no use.
    lora, lora_from = fetch.adapters(description, adapters)
    base, base_from = fetch.base(description, source)
    origin = {"pulled_from": {"base": base_from, "adapters": lora_from}}
    parts = Parts(base, lora, context)
    return add_model(name, description, parts, overwrite, listener.note, origin)
