"""Find what can be run, a model or a checkpoint, by its name or folder. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from os.path import isdir
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.checkpoints.catalogue import Checkpoint, checkpoint_names, find_checkpoint
from passionsr_cli.checkpoints.manifest import CheckpointManifest
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import StoreError
from passionsr_cli.models import catalogue
from passionsr_cli.store import CHECKPOINT, MODEL, Entry, kind_of
from passionsr_cli.system.text import suggestion

if TYPE_CHECKING:
    from passionsr_cli.models.one_step import OneStepModel


@dataclass(frozen=True)
class Artifact:
    """A model or a checkpoint of this machine: where it is stored, and the model's description.

    `manifest` is None of a model in full precision.
    """

    description: ModelDescription
    entry: Entry
    manifest: CheckpointManifest | None = None

    @property
    def quantized(self) -> bool:
        """True if its layers round to integers."""
        return self.manifest is not None

    @property
    def simulated(self) -> bool:
        """True if torch alone computes it: it has the released numerics."""
        return self.manifest is not None and self.manifest.numerics == "released"

    @property
    def fingerprint(self) -> str:
        """SHA-256 that is another for what computes otherwise."""
        weights = self.entry.tensors_file.sha256
        # The same weights may be run at another timestep.
        made_of = weights + self.description.model_dump_json()
        if self.manifest is not None:
            made_of = json.dumps([self.entry.manifest, weights], sort_keys=True)
        return hashlib.sha256(made_of.encode()).hexdigest()

    def load(self) -> OneStepModel:
        """The model in torch, its layers on their grids if it is a checkpoint."""
        if self.manifest is not None:
            from passionsr_cli.checkpoints.tensors import load_checkpoint

            return load_checkpoint(Checkpoint(self.entry, self.manifest))
        from passionsr_cli.models.loading import load_entry

        return load_entry(self.entry, self.description)


def resolve(name: str, kind: str | None = None) -> Artifact:
    """The artifact of this name, or in this folder: a checkpoint, or else a model.

    `kind` (`store.MODEL` or `store.CHECKPOINT`) says which of them it must be. Raises
    `PassionSRError` for what is not here, with what is.
    """
    if kind is not None:
        _check_kind(name, kind)
    if (kind or _kind_named(name)) == MODEL:
        known = catalogue.find_present(name)
        return Artifact(known.description, known.entry)
    found = find_checkpoint(name)
    return Artifact(found.manifest.model.description, found.entry, found.manifest)


def _check_kind(name: str, kind: str) -> None:
    """Refuse the name of a checkpoint where a model is asked for, and the other way round."""
    made, models = name in checkpoint_names(), name in catalogue.names()
    if made == models or isdir(name):
        return
    if made and kind == MODEL:
        raise StoreError(f"'{name}' is a checkpoint, as --checkpoint takes it, and no model")
    if models and kind == CHECKPOINT:
        raise StoreError(f"'{name}' is a model, as --model takes it, and no checkpoint")


def _kind_named(name: str) -> str:
    made = checkpoint_names()
    if name in made or kind_of(Path(name)) == CHECKPOINT:
        return CHECKPOINT
    models = catalogue.names()
    if name not in models and not isdir(name):
        raise StoreError(
            f"there is no checkpoint or model '{name}'{suggestion(name, [*made, *models])}"
        )
    return MODEL
