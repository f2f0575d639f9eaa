"""From photographs to a model in the store: trained from scratch, or moved to another timestep."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from passionsr_cli import __version__
from passionsr_cli.data.photographs import Photographs
from passionsr_cli.errors import ConfigError, ImageError, StoreError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import find_images
from passionsr_cli.models.catalogue import find_present
from passionsr_cli.models.loading import save
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.registry import ModelDescription, model_names
from passionsr_cli.store import MODEL, Entry, Store, shortest
from passionsr_cli.system.claims import claim
from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.system.paths import home
from passionsr_cli.training.retime import described_at
from passionsr_cli.training.retrainer import Retrainer
from passionsr_cli.training.settings import RetrainingSettings, TrainingSettings
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
    finished = _finished(store, name, {"training": recorded}, reporter)
    if finished is not None:
        return finished
    used = accelerator(device, precision)
    if not photos.is_dir():
        raise ImageError(f"{photos}: no such folder; --photos names a folder of photographs")
    folder = home() / "training" / store.folder(name).name
    with _claimed(folder, used):
        trainer = Trainer(settings, find_images(photos), folder, used)
        _note_settings(folder, settings)
        model = trainer.run(reporter)
    if used.is_main_process:
        provenance = {
            "training": recorded,
            "photographs": len(trainer.photographs),
            "curve": read_rows(folder / CURVE_FILE),
            "versions": {"passionsr": __version__, "torch": str(torch.__version__)},
        }
        save(store.folder(name), model, provenance)
        shutil.rmtree(folder)
    used.wait_for_everyone()
    return store.read(name)


def retrain(
    settings: RetrainingSettings,
    photos: Path | None,
    name: str,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter = SILENT,
) -> Entry:
    """Move a model to another timestep (TRQ, QArtSR, arXiv 2503.05584) and store it as `name`.

    Learns from the `sample:` photographs unless there is a folder. Goes on like `train`.
    """
    store, recorded = Store(MODEL), settings.model_dump(mode="json")
    known = find_present(settings.model)
    made_from = {
        "name": known.name,
        "sha256": known.sha256,
        "timestep": known.description.timestep,
    }
    about = {"made_from": {"model": made_from}, "retraining": recorded}
    finished = _finished(store, name, about, reporter)
    if finished is not None:
        return finished
    used = accelerator(device, precision)
    description = described_at(known.description, settings.timestep)
    _check_sizes(settings, description)
    folder = home() / "training" / store.folder(name).name
    photographs = _photographs(photos)
    with _claimed(folder, used):
        _note_settings(folder, settings)
        trainer = Retrainer(settings, known, photographs, folder, used)
        model = trainer.run(reporter)
    if used.is_main_process:
        manifest = {
            "description": description.model_copy(update={"name": name, "sources": ()}).model_dump(
                mode="json"
            ),
            **about,
            "photographs": {
                "source": str(photos or "the sample: photographs"),
                "count": len(photographs),
            },
            "curve": [vars(row) for row in trainer.record.rows],
            "versions": {"passionsr": __version__, "torch": str(torch.__version__)},
        }
        tensors = {key: shortest(value).cpu() for key, value in model.state_dict().items()}
        store.write(name, manifest, tensors)
        shutil.rmtree(folder)
    used.wait_for_everyone()
    return store.read(name)


def _finished(store: Store, name: str, about: dict[str, Any], reporter: Reporter) -> Entry | None:
    """The model of this name, if its manifest says the same; another of that name is refused."""
    if name not in model_names() and not store.exists(name):
        return None
    if store.exists(name):
        entry = store.read(name)
        if all(entry.manifest.get(key) == value for key, value in about.items()):
            reporter.note(f"'{name}' is finished already")
            return entry
    raise StoreError(f"a model named '{name}' exists already; choose another --name")


def _photographs(photos: Path | None) -> Photographs:
    if photos is None:
        return Photographs([f"{samples.PREFIX}{name}" for name in samples.NAMES])
    if not photos.is_dir():
        raise ImageError(f"{photos}: no such folder; --photos names a folder of photographs")
    files = find_images(photos)
    if not files:
        raise ImageError(f"{photos}: no images in this folder; retraining needs some")
    return Photographs(files)


def _check_sizes(settings: RetrainingSettings, description: ModelDescription) -> None:
    """Refuse crops that the model does not take."""
    unit_px = description.unit_px
    for stage in settings.stages:
        if stage.crop_px % unit_px:
            raise ConfigError(
                f"stage '{stage.name}': crop_px must be a multiple of {unit_px}, "
                f"found {stage.crop_px}"
            )


def _claimed(folder: Path, used: Accelerator) -> AbstractContextManager[None]:
    """Hold the folder of a run, if other processes of the same run do not."""
    return claim(folder, "training") if used.is_main_process else nullcontext()


def _note_settings(folder: Path, settings: TrainingSettings | RetrainingSettings) -> None:
    """Note the settings of a new run, or compare them with those of the run that is there."""
    path, wanted = folder / SETTINGS_FILE, settings.model_dump_json(indent=2)
    if path.exists() and path.read_text(encoding="utf-8") != wanted:
        raise ConfigError(
            f"{folder} holds an unfinished training with other settings; "
            "finish it with those, choose another --name, or delete that folder"
        )
    with replace_atomically(path) as temporary:
        temporary.write_text(wanted, encoding="utf-8")
