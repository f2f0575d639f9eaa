"""Calibrations of the tiny model by one method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calibrating import Finished, same_tensors
from reporting import killed_at

from passionsr_cli import api
from passionsr_cli.checkpoints.catalogue import Checkpoint
from passionsr_cli.config import CalibrationSettings

Settings = Callable[..., CalibrationSettings]
Calibrate = Callable[..., Checkpoint]


@pytest.fixture
def settings_of(tiny_folder: Path) -> Settings:
    """`settings_of(method, **settings)` of the tiny model, its UNet alone unless told."""

    def give(method: str, unet: str = "w4a4", vae: str = "fp", **own: Any) -> CalibrationSettings:
        values = {
            "model": str(tiny_folder),
            "unet": unet,
            "vae": vae,
            "float_layers": (),
            "method": method,
            "method_settings": {method: own},
            "crops": 4,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
        }
        return CalibrationSettings.model_validate(values)

    return give


@pytest.fixture
def calibrated(settings_of: Settings, finished: Finished) -> Calibrate:
    """`calibrated(name, method, **settings)`: an undisturbed run."""

    def run(name: str, method: str, **settings: Any) -> Checkpoint:
        return finished(settings_of(method, **settings), name)

    return run


@pytest.fixture
def goes_on(settings_of: Settings, calibrated: Calibrate, pictures: None) -> Callable[..., bool]:
    """`goes_on(method, where, number, **settings)`: whether a run that is killed there and
    resumed ends bit for bit like an undisturbed one."""

    def run(method: str, where: str, number: int, **settings: Any) -> bool:
        chosen = settings_of(method, **settings)
        with killed_at(where, number) as reporter:
            api.calibrate(chosen, "stopped", reporter=reporter)
        stopped = api.calibrate(chosen, "stopped")
        return same_tensors(stopped, calibrated("undisturbed", method, **settings))

    return run
