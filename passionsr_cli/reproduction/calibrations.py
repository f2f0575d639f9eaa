"""Calibrations of a table's rows, and whether they are there already."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from passionsr_cli import methods
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.calibration.request import made_with
from passionsr_cli.checkpoints.catalogue import Checkpoint, find_checkpoint
from passionsr_cli.checkpoints.unfinished import from_anywhere, unfinished
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError, StoreError
from passionsr_cli.layering import validate
from passionsr_cli.models import catalogue
from passionsr_cli.progress import Reporter
from passionsr_cli.reproduction.definitions import RowDefinition
from passionsr_cli.reproduction.retraining import model_of
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.store import CHECKPOINT, Store
from passionsr_cli.system.children import run_child

# What may differ between a checkpoint that is there and the one a row wants: the model is
# compared by its weights, and the others change no number.
FREE = ("model", "device", "save_every_seconds", "gradient_checkpointing")
# After Ctrl-C a fit ends its step and saves.
SAVING_SECONDS = 10


@dataclass(frozen=True)
class Calibration:
    """The checkpoint of a row: what it is called, and how it is made."""

    name: str
    settings: CalibrationSettings

    @property
    def state(self) -> Literal["there", "unfinished", "to do"]:
        """Raises `StoreError` if another checkpoint has the name."""
        if Store(CHECKPOINT).exists(self.name):
            self.found()
            return "there"
        return "unfinished" if self.name in unfinished() else "to do"

    def found(self) -> Checkpoint:
        """The checkpoint, which is in the store; refused if it was made otherwise."""
        checkpoint = find_checkpoint(self.name)
        known = catalogue.find_present(self.settings.model)
        if difference := _difference(checkpoint, known, self.settings):
            raise StoreError(
                f"the checkpoint '{self.name}' that is there {difference}; delete it with "
                f"`passionsr checkpoints remove {self.name}`, or give these settings as a file "
                "of another name by --config"
            )
        return checkpoint


def calibrate_apart(calibration: Calibration, reporter: Reporter) -> Checkpoint:
    """Make a row's checkpoint in a process of its own, going on with an unfinished run of its name.

    Its peak memory is that of one calibration, and one that is killed for lack of memory does not
    take the table with it.
    """
    arguments = {
        "settings": calibration.settings.model_dump(mode="json"),
        "name": calibration.name,
    }
    run_child(f"{__name__}:calibrate_here", arguments, reporter, grace_seconds=SAVING_SECONDS)
    return find_checkpoint(calibration.name)


def calibrate_here(settings: dict[str, Any], name: str, reporter: Reporter) -> None:
    """The work of that process, with the settings as JSON holds them."""
    from passionsr_cli.calibration.calibrate import calibrate

    calibrate(validate(settings, CalibrationSettings, name), name, reporter)


def calibration_of(
    row: RowDefinition, settings: ReproductionSettings, seed: int | None = None
) -> Calibration:
    """Calibration of a row; without a `seed` with that of its configuration.

    Raises `ConfigError`, for a method that is not there as well.
    """
    chosen = settings_of(row, settings, seed)
    methods.build(chosen)
    presets = [*row.configs, *([settings.config] if settings.config else [])]
    if row.budget is None and row.named_bits is None:
        presets.insert(0, row.bits.lower())
    parts = [chosen.default_name(), *(Path(preset).stem for preset in presets)]
    if row.method_settings:
        parts.insert(1, re.sub(r"[^a-z0-9]+", "-", row.label.lower()).strip("-"))
    if seed:
        parts.append(f"seed{seed}")
    return Calibration("-".join(parts), chosen)


def settings_of(
    row: RowDefinition, settings: ReproductionSettings, seed: int | None = None
) -> CalibrationSettings:
    """Settings of a row's calibration, whether or not its method is there. Raises `ConfigError`."""
    own = {"method_settings": {row.method: row.method_settings}} if row.method_settings else {}
    above = [settings.config] if settings.config else []
    options = {
        "method": row.method,
        "model": model_of(row, settings),
        "images": settings.images,
        "device": settings.device,
        "budget": row.budget,
        "seed": seed,
    }
    bits = None if row.budget else row.bits
    return settings_for(bits, [*row.configs, own, *above], options)


def check_names(
    rows: Sequence[RowDefinition], settings: ReproductionSettings, seed: int | None = None
) -> None:
    """Refuse rows whose calibrations differ but have one name.

    Those that cannot be made say so themselves, in their places.
    """
    named: dict[str, tuple[str, dict[str, Any]]] = {}
    for row in rows:
        if row.method is None or row.published_only:
            continue
        try:
            calibration = calibration_of(row, settings, seed)
        except ConfigError:
            continue
        name, made = calibration.name, _all_settings(calibration.settings)
        other, made_there = named.setdefault(name, (row.name, made))
        if made != made_there:
            raise ConfigError(
                f"rows '{other}' and '{row.name}' differ, but both checkpoints would be called "
                f"'{name}'; give one row a label with other letters or digits, or its "
                "configuration another name"
            )


def _difference(
    checkpoint: Checkpoint, known: catalogue.KnownModel, settings: CalibrationSettings
) -> str:
    """Difference between how a checkpoint was made and how a row wants it, or ''."""
    from passionsr_cli.calibration.calibrate import images_changed

    manifest = checkpoint.manifest
    if manifest.model.sha256 != known.sha256:
        return f"is of another model than '{settings.model}'"
    try:
        made = made_with(manifest)
        before = _all_settings(made)
    except ConfigError:
        return "was made by another version"
    now = _all_settings(settings)
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            return f"was made with {key} {before.get(key)}, not {now.get(key)}"
    if images_changed(manifest.images, settings, known):
        return f"was made when other images were in {settings.images}"
    return ""


def _all_settings(settings: CalibrationSettings) -> dict[str, Any]:
    """Those of the calibration and of its method that count."""
    return _settings_of(settings) | methods.build(settings).settings


def _settings_of(settings: CalibrationSettings) -> dict[str, Any]:
    # A run that was resumed has noted whole paths.
    return from_anywhere(
        settings.model_dump(mode="json", exclude={*FREE, "method", "method_settings"})
    )
