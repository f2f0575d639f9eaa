"""Calibrations that tests share, and those that tests watch."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from reporting import Hurry, Place, hurried

from passionsr_cli import api
from passionsr_cli.progress import NO_DETAILS, SILENT

if TYPE_CHECKING:
    from passionsr_cli.checkpoints.catalogue import Checkpoint
    from passionsr_cli.config import CalibrationSettings
    from passionsr_cli.progress import Reporter
    from passionsr_cli.reproduction.calibrations import Calibration


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leave out the picture of a run, which takes as long as all else of a tiny one."""
    patch.setattr("passionsr_cli.calibration.curves.draw_run", lambda *arguments: None)


class Finished:
    """Undisturbed calibrations, each computed once in a home of their own, without pictures.

    What a test gets is a copy under its own name, which it may change.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, settings: CalibrationSettings, name: str) -> Checkpoint:
        from passionsr_cli.checkpoints.catalogue import find_checkpoint
        from passionsr_cli.store import CHECKPOINT, Store

        shutil.copytree(self._made(settings, SILENT).folder, Store(CHECKPOINT).folder(name))
        return find_checkpoint(name)

    def stopped(
        self, settings: CalibrationSettings, places: Sequence[Place], place: Place, name: str
    ) -> None:
        """Leave what a kill at `place`, one of these, leaves of a calibration under this name.

        One undisturbed run gives them all.
        """
        from passionsr_cli.checkpoints.unfinished import run_folder

        copies = self.home / "copies" / _hash(settings)
        with hurried(FolderCopies(copies, places)) as reporter:
            self._made(settings, reporter)
        shutil.copytree(copies / _folder_of(place), run_folder(name))

    def _made(self, settings: CalibrationSettings, reporter: Reporter) -> Checkpoint:
        with pytest.MonkeyPatch.context() as patch:
            draw_nothing(patch)
            patch.setenv("PASSIONSR_HOME", str(self.home))
            # One that is there already is returned as it is.
            return api.calibrate(settings, _hash(settings), reporter)


class FolderCopies(Hurry):
    """Copies the folder of the one unfinished calibration at each of these steps."""

    def __init__(self, copies: Path, places: Sequence[Place]) -> None:
        super().__init__({task for task, _ in places})
        self.copies, self.places = copies, places

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        from passionsr_cli.checkpoints.unfinished import run_folder, unfinished

        copy = self.copies / _folder_of((task, done))
        # Layers are observed several times: the first one counts, as for a kill.
        if (task, done) in self.places and not copy.exists():
            (name,) = unfinished()
            shutil.copytree(run_folder(name), copy)
            self.there = False


def _hash(settings: CalibrationSettings) -> str:
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]


def _folder_of(place: tuple[str, float]) -> str:
    return f"{place[0]} {place[1]}"


def same_tensors(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints hold the same bits."""
    import torch

    tensors, others = one.entry.tensors(), other.entry.tensors()
    return tensors.keys() == others.keys() and all(
        torch.equal(tensors[key], others[key]) for key in tensors
    )


class Making:
    """Calibrates in this process; remembers what was asked for, and in which state it was."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, calibration: Calibration, reporter: Reporter) -> Checkpoint:
        state = calibration.state
        self.asked.append((calibration.name, state))
        return api.calibrate(calibration.settings, calibration.name, reporter)


def small_method(name: str) -> dict[str, Any]:
    """A method in settings for a tiny model: two steps in every fit, ranks of two."""
    from passionsr_cli.methods import METHODS

    ranks = {"linear": 2, "convolution": 2, "pointwise": 2}
    small = {"steps": 2, "ranks": ranks, "merged_ranks": ranks}

    def changed(values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {key: small[key] if key in small else changed(held) for key, held in values.items()}

    own = changed(METHODS[name].settings().model_dump(mode="json"))
    return {"method": name, "method_settings": {name: own}}
