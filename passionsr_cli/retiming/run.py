"""Retraining as a verb: a model moved to another timestep, into the store."""

from __future__ import annotations

from typing import Any

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError
from passionsr_cli.models.catalogue import find_present
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.retiming.retime import described_at
from passionsr_cli.retiming.retrainer import Retrainer
from passionsr_cli.retiming.settings import RetrainingSettings
from passionsr_cli.store import MODEL, Entry, Store
from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.paths import StrPath, optional_path
from passionsr_cli.training.run import (
    claimed,
    finished,
    learned_from,
    note_settings,
    origin_of,
    photographs_in,
    run_folder,
    write_descendant,
)


def retrain(
    settings: RetrainingSettings,
    photos: StrPath | None,
    name: str,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter = SILENT,
) -> Entry:
    """Move a model to another timestep (TRQ, QArtSR, arXiv 2503.05584) and store it as `name`.

    Learns from the `sample:` photographs unless there is a folder. Goes on like `train`. With
    options = {"model": NAME, "timestep": T} the preset's settings are
    `settings_from("retrain", RetrainingSettings, options)`.
    """
    store, recorded = Store(MODEL), settings.model_dump(mode="json")
    known = find_present(settings.model)
    made_from = {
        "name": known.name,
        "sha256": known.sha256,
        "timestep": known.description.timestep,
    }
    about: dict[str, Any] = {"made_from": {"model": made_from}, "retraining": recorded}
    photos = optional_path(photos)
    origin = origin_of(photos, settings.model)
    there = finished(store, name, about, origin, reporter)
    if there is not None:
        return there
    used = accelerator(device, precision, reporter)
    description = described_at(known.description, settings.timestep)
    _check_sizes(settings, description)
    folder = run_folder(store, name)
    photographs = photographs_in(photos)
    with claimed(folder, used):
        note_settings(folder, settings, origin)
        trainer = Retrainer(settings, known, photographs, folder, used)
        model = trainer.run(reporter)
    if used.is_main_process:
        own = description.model_copy(update={"name": name})
        about["origin"] = origin
        about["photographs"] = learned_from(photos, photographs)
        about["curve"] = [vars(row) for row in trainer.record.rows]
        write_descendant(store, model, own, about, folder)
    used.wait_for_everyone()
    return store.read(name)


def _check_sizes(settings: RetrainingSettings, description: ModelDescription) -> None:
    """Refuse crops that the model does not take."""
    unit_px = description.unit_px
    for stage in settings.stages:
        if stage.crop_px % unit_px:
            raise ConfigError(
                f"stage '{stage.name}': crop_px must be a multiple of {unit_px}, "
                f"found {stage.crop_px}"
            )
