"""Calibrations of the tiny model by one method, from a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reporting import Kill, KillAt

from passionsr_cli import api
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.store import Entry

Calibrate = Callable[..., Entry]


@pytest.fixture
def calibrated(tiny_folder: Path) -> Calibrate:
    """`calibrated(name, method, **settings)` of the tiny model, its UNet alone unless told."""

    def run(
        name: str,
        method: str,
        reporter: Reporter = SILENT,
        resume: bool = False,
        unet: str = "w4a4",
        vae: str = "fp",
        **own: Any,
    ) -> Entry:
        values = {
            "model": str(tiny_folder),
            "unet": unet,
            "vae": vae,
            "method": method,
            "method_settings": {method: own},
            "crops": 4,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
            "save_every_seconds": 1,
        }
        settings = CalibrationSettings.model_validate(values)
        return api.calibrate(settings, name, resume, reporter)

    return run


@pytest.fixture
def goes_on(calibrated: Calibrate, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """`goes_on(method, where, number, **settings)`: whether a run that is killed there and
    resumed ends bit for bit like an undisturbed one."""

    def run(method: str, where: str, number: int, **own: Any) -> bool:
        # Save after every step, as a slow machine would.
        ticks = iter(range(0, 10**9, 60))
        monkeypatch.setattr("passionsr_cli.fitting.loop.time.monotonic", lambda: next(ticks))
        calibrated("undisturbed", method, **own)
        with pytest.raises(Kill):
            calibrated("stopped", method, KillAt(where, number), **own)
        calibrated("stopped", method, resume=True, **own)
        one, two = (find_checkpoint(name).entry.tensors() for name in ("undisturbed", "stopped"))
        return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)

    return run
