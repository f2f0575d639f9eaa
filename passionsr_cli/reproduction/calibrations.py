"""What the rows of a table are calibrated to, and whether that is there already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from passionsr_cli import methods
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.checkpoints.catalogue import Checkpoint, find_checkpoint
from passionsr_cli.checkpoints.unfinished import unfinished
from passionsr_cli.config import CalibrationSettings, validate
from passionsr_cli.errors import ConfigError, StoreError
from passionsr_cli.models import catalogue
from passionsr_cli.reproduction.definitions import RowDefinition
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.store import CHECKPOINT, Store

# What may differ between a checkpoint that is there and the one a row wants: the model is
# compared by its weights, and the others change no number.
FREE = ("model", "device", "save_every_seconds", "gradient_checkpointing")


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
        if difference := _difference(checkpoint, catalogue.checksum(known), self.settings):
            raise StoreError(
                f"the checkpoint '{self.name}' that is there {difference}; delete it with "
                f"`passionsr checkpoints remove {self.name}`, or give these settings as a file "
                "of another name by --config"
            )
        return checkpoint


def calibration_of(row: RowDefinition, settings: ReproductionSettings) -> Calibration:
    """How a row is calibrated. Raises `ConfigError`, for a method that is not there as well."""
    above = [*row.configs, *([settings.config] if settings.config else [])]
    options = {
        "method": row.method,
        "model": settings.model,
        "images": settings.images,
        "device": settings.device,
    }
    chosen = settings_for(row.bits, above, options)
    methods.build(chosen)
    name = "-".join([chosen.default_name, *(Path(config).stem for config in above)])
    return Calibration(name, chosen)


def _difference(checkpoint: Checkpoint, weights: str, settings: CalibrationSettings) -> str:
    """How a checkpoint was made otherwise than a row wants it, or ''."""
    manifest = checkpoint.manifest
    if manifest.model.sha256 != weights:
        return f"is of another model than '{settings.model}'"
    try:
        made = validate(manifest.settings, CalibrationSettings, checkpoint.name)
    except ConfigError:
        return "was made by another version"
    before, now = _settings_of(made), _settings_of(settings)
    before |= manifest.method.settings
    now |= methods.build(settings).settings
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            return f"was made with {key} {before.get(key)}, not {now.get(key)}"
    return ""


def _settings_of(settings: CalibrationSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude={*FREE, "method", "method_settings"})
