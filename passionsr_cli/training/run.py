"""Training as a verb: from photographs to a model in the store."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
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
from passionsr_cli.models.loading import save
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.registry import model_names
from passionsr_cli.store import MODEL, Entry, Store, shortest
from passionsr_cli.system.claims import claim
from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.system.paths import home
from passionsr_cli.training.settings import TrainingSettings
from passionsr_cli.training.trainer import CURVE_FILE, Trainer
from passionsr_cli.training.validation import read_rows

SETTINGS_FILE = "settings.json"


def train(
    settings: TrainingSettings,
    photos: Path,
    name: str,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter = SILENT,
) -> Entry:
    """Train on the photographs of a folder and write the result into the store as `name`.

    The unfinished run lives in the user's data directory under `training/NAME`; the same call
    takes it up again, or returns what it has finished; a call with other settings is refused.
    """
    store, recorded = Store(MODEL), settings.model_dump(mode="json", exclude={"model"})
    known = finished(store, name, {"training": recorded}, reporter)
    if known is not None:
        return known
    used = accelerator(device, precision, reporter)
    photographs = images_in(photos, "--photos")
    folder = run_folder(store, name)
    with claimed(folder, used):
        trainer = Trainer(settings, photographs, folder, used)
        note_settings(folder, settings)
        model = trainer.run(reporter)
    if used.is_main_process:
        provenance = {
            "training": recorded,
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


def finished(store: Store, name: str, about: dict[str, Any], reporter: Reporter) -> Entry | None:
    """The model of this name, if its manifest says the same; another of that name is refused.

    What its run left, if it was killed at its very end, is removed.
    """
    if name not in model_names() and not store.exists(name):
        return None
    if store.exists(name):
        entry = store.read(name)
        if all(entry.manifest.get(key) == value for key, value in about.items()):
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


def note_settings(folder: Path, settings: Settings) -> None:
    """Note the settings of a new run, or compare them with those of the run that is there."""
    path, wanted = folder / SETTINGS_FILE, settings.model_dump_json(indent=2)
    if path.exists() and path.read_text(encoding="utf-8") != wanted:
        raise ConfigError(
            f"{folder} holds an unfinished training with other settings; "
            "finish it with those, choose another --name, or delete that folder"
        )
    with replace_atomically(path) as temporary:
        temporary.write_text(wanted, encoding="utf-8")
