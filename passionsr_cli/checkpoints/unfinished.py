"""Calibrations that were stopped and can be resumed."""

from __future__ import annotations

import json
from os.path import abspath
from pathlib import Path

from pydantic import JsonValue

from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import StoreError
from passionsr_cli.layering import validate
from passionsr_cli.models.catalogue import whole_name
from passionsr_cli.store import CHECKPOINT, Store
from passionsr_cli.system.files import read_json, replace_atomically
from passionsr_cli.system.paths import home
from passionsr_cli.system.text import suggestion

SETTINGS_FILE, ORIGIN_FILE = "settings.json", "origin.json"


def run_folder(name: str) -> Path:
    """Folder of the unfinished run of a checkpoint."""
    return home() / "calibration" / Store(CHECKPOINT).folder(name).name


def unfinished() -> list[str]:
    """Names of the runs that were stopped and can be resumed."""
    return sorted(path.parent.name for path in home().glob(f"calibration/*/{SETTINGS_FILE}"))


def saved_settings(name: str) -> CalibrationSettings:
    """The settings of the unfinished run of this name."""
    path = run_folder(name) / SETTINGS_FILE
    if not path.exists():
        known = suggestion(name, unfinished())
        raise StoreError(f"there is no unfinished calibration '{name}'{known}")
    try:
        return validate(read_json(path), CalibrationSettings, str(path))
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}); remove '{name}' and start anew") from error


def saved_origin(name: str) -> dict[str, str]:
    """SHA-256 of the model and of the images that the unfinished run of this name began with.

    Empty for runs of versions that did not note it.
    """
    path = run_folder(name) / ORIGIN_FILE
    if not path.exists():
        return {}
    try:
        return {str(key): str(value) for key, value in read_json(path).items()}
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}); remove '{name}' and start anew") from error


def from_anywhere(settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Settings as JSON holds them, with whole paths, which mean the same wherever one stands."""
    whole = dict(settings)
    for key, found in (("model", whole_name), ("images", abspath)):
        if settings.get(key) is not None:
            whole[key] = found(str(settings[key]))
    return whole


def save_request(name: str, settings: CalibrationSettings, origin: dict[str, str]) -> None:
    """Note what a run was asked for and what it began with, by which it is known again."""
    folder = run_folder(name)
    # Settings come last: with them the run is there.
    for file, text in (
        (ORIGIN_FILE, json.dumps(origin, indent=2)),
        (SETTINGS_FILE, json.dumps(from_anywhere(settings.model_dump(mode="json")), indent=2)),
    ):
        with replace_atomically(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
