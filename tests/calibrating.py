"""Calibrations that tests share, and those that tests watch."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from passionsr_cli import api

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

        same = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]
        with pytest.MonkeyPatch.context() as patch:
            draw_nothing(patch)
            patch.setenv("PASSIONSR_HOME", str(self.home))
            # One that is there already is returned as it is.
            made = api.calibrate(settings, same)
        shutil.copytree(made.folder, Store(CHECKPOINT).folder(name))
        return find_checkpoint(name)


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
