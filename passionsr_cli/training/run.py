"""Training as a verb: from photographs to a model in the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from os.path import exists
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from passionsr_cli import __version__
from passionsr_cli.config import Settings
from passionsr_cli.data.photographs import Photographs
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, StoreError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import images_in
from passionsr_cli.models.catalogue import find_present
from passionsr_cli.models.loading import save
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.registry import model_names, read_description
from passionsr_cli.store import MODEL, Entry, Store, shortest
from passionsr_cli.system.claims import claim, clear
from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.files import read_json, replace_atomically
from passionsr_cli.system.paths import StrPath, home
from passionsr_cli.training.settings import TrainingSettings
from passionsr_cli.training.trainer import CURVE_FILE, Trainer
from passionsr_cli.training.validation import read_rows

SETTINGS_FILE, ORIGIN_FILE = "settings.json", "origin.json"
# SHA-256 of what a model is made of, by its name; None of what is not there (any more).
Origin = Mapping[str, str | None]


def train(
    settings: TrainingSettings,
    photos: StrPath,
    name: str,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter = SILENT,
) -> Entry:
    """Train on the photographs of a folder and write the result into the store as `name`.

    The unfinished run lives in the user's data directory under `training/NAME`; the same call
    takes it up again, or returns what it has finished; a call with other settings, photographs or
    weights to start from is refused.
    """
    store, recorded = Store(MODEL), settings.model_dump(mode="json", exclude={"model"})
    about = {"training": recorded, "description": settings.model.model_dump(mode="json")}
    photos = Path(photos)
    origin = origin_of(photos, settings.start_from)
    known = finished(store, name, about, origin, reporter)
    if known is not None:
        return known
    used = accelerator(device, precision, reporter)
    photographs = images_in(photos, "--photos")
    folder = run_folder(store, name)
    with claimed(folder, used):
        trainer = Trainer(settings, photographs, folder, used)
        note_settings(folder, settings, origin)
        model = trainer.run(reporter)
    if used.is_main_process:
        provenance = {
            "training": recorded,
            "origin": origin,
            "photographs": len(trainer.photographs),
            "curve": read_rows(folder / CURVE_FILE),
            "versions": {"passionsr": __version__, "torch": str(torch.__version__)},
        }
        save(store.folder(name), model, provenance)
        _remove(folder)
    used.wait_for_everyone()
    return store.read(name)


def photographs_in(photos: Path | None) -> Photographs:
    """The photographs of a folder, or without one the `sample:` photographs."""
    if photos is None:
        return Photographs([f"{samples.PREFIX}{name}" for name in samples.NAMES])
    return Photographs(images_in(photos, "--photos"))


def run_folder(store: Store, name: str) -> Path:
    """Folder of an unfinished run."""
    return home() / "training" / store.folder(name).name


def origin_of(photos: Path | None, model: str | None) -> Origin:
    """SHA-256 of the photographs, and of the weights of the model that a run begins with."""
    here = photos is None or exists(photos)
    return {
        "photographs": photographs_in(photos).fingerprint() if here else None,
        "model": None if model is None else find_present(model).sha256,
    }


def _differing(noted: Origin, now: Origin) -> list[str]:
    """Parts that are known to have changed; earlier versions did not note them."""
    known = [part for part in now if None not in (noted.get(part), now[part])]
    return [part for part in known if noted[part] != now[part]]


def finished(
    store: Store, name: str, about: dict[str, Any], origin: Origin, reporter: Reporter
) -> Entry | None:
    """The model of this name, if its manifest says the same; another of that name is refused.

    What its run left, if it was killed at its very end, is removed.
    """
    if name not in model_names() and not store.exists(name):
        return None
    if store.exists(name):
        entry = store.read(name)
        described = read_description(entry.folder).model_dump(mode="json")
        noted = {**entry.manifest, "description": described}
        same = all(noted.get(key) == value for key, value in about.items())
        if same and not _differing(noted.get("origin", {}), origin):
            reporter.note(f"'{name}' is finished already")
            _remove(run_folder(store, name))
            return entry
    raise StoreError(f"a model named '{name}' exists already; choose another --name")


def write_descendant(
    store: Store,
    model: OneStepModel,
    description: ModelDescription,
    about: dict[str, Any],
    folder: Path,
) -> None:
    """Store a model made of another as `description` names it, and remove the folder of its run.

    `about` is what its manifest says of how it was made.
    """
    manifest = {
        "description": description.model_copy(update={"sources": ()}).model_dump(mode="json"),
        **about,
        "versions": {"passionsr": __version__, "torch": str(torch.__version__)},
    }
    tensors = {key: shortest(value).cpu() for key, value in model.state_dict().items()}
    store.write(description.name, manifest, tensors)
    _remove(folder)


def learned_from(photos: Path | None, photographs: Photographs) -> dict[str, Any]:
    """Entry of a manifest: the photographs that a model learned from."""
    return {"source": str(photos or "the sample: photographs"), "count": len(photographs)}


def _remove(folder: Path) -> None:
    # Another process of the same finished run may be at it.
    shutil.rmtree(folder, ignore_errors=True)


def claimed(folder: Path, used: Accelerator) -> AbstractContextManager[None]:
    """Hold the folder of a run, if other processes of the same run do not."""
    return claim(folder, "training") if used.is_main_process else nullcontext()


def note_settings(folder: Path, settings: Settings, origin: Origin) -> None:
    """Note what a new run is made of, or compare it with that of the run that is there."""
    path, wanted = folder / SETTINGS_FILE, settings.model_dump_json(indent=2)
    if path.exists():
        other = ["settings"] if path.read_text(encoding="utf-8") != wanted else []
        other += _differing(_noted_origin(folder), origin)
        if other:
            what = "a model of other weights" if other[0] == "model" else f"other {other[0]}"
            raise ConfigError(
                f"{folder} holds an unfinished training with {what}; finish it with those, choose "
                "another --name, or delete that folder"
            )
    else:
        clear(folder)
    # Settings come last: with them the run is there.
    for file, text in ((ORIGIN_FILE, json.dumps(origin, indent=2)), (SETTINGS_FILE, wanted)):
        with replace_atomically(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _noted_origin(folder: Path) -> Origin:
    path = folder / ORIGIN_FILE
    if not path.exists():
        return {}
    noted: Origin = read_json(path)
    return noted
