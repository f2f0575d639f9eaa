"""A registered model from the places it is published at."""

from __future__ import annotations

from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.published.adding import ModelFiles, put_together
from passionsr_cli.published.downloads import Downloader
from passionsr_cli.published.keeping import finished
from passionsr_cli.published.recipes import check_pullable, find_recipe
from passionsr_cli.store import Entry
from passionsr_cli.system.paths import StrPath, home, optional_path


def pull_model(
    model: str,
    name: str | None = None,
    source: str | None = None,
    adapters: str | None = None,
    context: StrPath | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Entry:
    """Fetch the parts of a registered model and keep it in the store as `name`, by default its own.

    `source` (base weights) and `adapters` replace the registered places. What was fetched stays
    in the caches, so that a command that failed goes on where it stopped, and one that has
    finished has nothing to do.
    """
    check_pullable(model)
    name, recipe, context = name or model, find_recipe(model, model), optional_path(context)
    description = recipe.description
    asked_for = {
        "model": model,
        "source": source,
        "adapters": adapters,
        "context": context and str(context.absolute()),
    }
    known = finished(name, overwrite, asked_for, reporter)
    if known is not None:
        return known
    reporter.note(f"{description.title}; licence: {description.licence}")
    fetch = Downloader(home() / "downloads", reporter)
    # The small file comes first: without it the large ones are of no use.
    lora, lora_from = fetch.file("adapters", description, adapters)
    decoder, decoder_from = fetch.file("decoder", description, None)
    base, base_from = fetch.base(description, source)
    places = {"base": base_from, "adapters": lora_from, "decoder": decoder_from}
    pulled_from = {part: place for part, place in places.items() if place}
    origin = {"pulled_from": pulled_from, "asked_for": asked_for}
    parts = ModelFiles(base, lora, context, decoder, recipe.lora_alpha, recipe.adapts)
    return put_together(name, description, parts, overwrite, reporter, origin)
