"""From a folder of photographs to a model in the store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator

from passionsr_cli import __version__
from passionsr_cli.atomic import replace_atomically
from passionsr_cli.errors import ConfigError, ImageError, StoreError
from passionsr_cli.fitting.loop import Progress
from passionsr_cli.imaging.planning import find_images
from passionsr_cli.models.sources import KIND, save
from passionsr_cli.registry import model_names
from passionsr_cli.store import Entry, Store, home
from passionsr_cli.training.settings import TrainingSettings
from passionsr_cli.training.trainer import CURVE_FILE, Trainer
from passionsr_cli.training.validation import Validation, read_rows

SETTINGS_FILE = "settings.json"


def train_model(
    settings: TrainingSettings,
    photos: Path,
    name: str,
    accelerator: Accelerator,
    on_step: Callable[[Progress], None],
    on_validation: Callable[[Validation], None],
) -> Entry:
    """Train on the photographs of a folder and write the result into the store as `name`.

    The unfinished run lives in the user's data directory under `training/NAME`; the same call
    takes it up again, a call with other settings is refused.
    """
    store = Store(KIND)
    if store.exists(name) or name in model_names():
        raise StoreError(f"a model named '{name}' exists already; choose another --name")
    if not photos.is_dir():
        raise ImageError(f"{photos}: no such folder; --photos names a folder of photographs")
    folder = home() / "training" / store.folder(name).name
    trainer = Trainer(settings, find_images(photos), folder, accelerator)
    _claim(folder, settings)
    model = trainer.run(on_step, on_validation)
    if accelerator.is_main_process:
        provenance = {
            "training": settings.model_dump(mode="json", exclude={"model"}),
            "photographs": len(trainer.photographs),
            "curve": read_rows(folder / CURVE_FILE),
            "versions": {"passionsr": __version__, "torch": str(torch.__version__)},
        }
        save(store.folder(name), model, provenance)
        shutil.rmtree(folder)
    accelerator.wait_for_everyone()
    return store.read(name)


def _claim(folder: Path, settings: TrainingSettings) -> None:
    """Note the settings of a new run, or compare them with those of the run that is there."""
    path, wanted = folder / SETTINGS_FILE, settings.model_dump_json(indent=2)
    if path.exists() and path.read_text(encoding="utf-8") != wanted:
        raise ConfigError(
            f"{folder} holds an unfinished training with other settings; "
            "finish it with those, choose another --name, or delete that folder"
        )
    with replace_atomically(path) as temporary:
        temporary.write_text(wanted, encoding="utf-8")
