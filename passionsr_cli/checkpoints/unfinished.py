"""Calibrations that were stopped and can be resumed."""

from __future__ import annotations

from pathlib import Path

from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import StoreError
from passionsr_cli.layering import validate
from passionsr_cli.store import CHECKPOINT, Store
from passionsr_cli.system.files import read_json
from passionsr_cli.system.paths import home
from passionsr_cli.system.text import suggestion

SETTINGS_FILE = "settings.json"


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
