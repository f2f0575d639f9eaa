from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from passionsr_cli import api
from passionsr_cli.config import CalibrationSettings


@pytest.fixture
def calibrate(tiny_folder: Path) -> Callable[..., str]:
    """Makes a checkpoint of the tiny model and gives its name."""

    def run(bits: str, **settings: str) -> str:
        values = {
            "model": str(tiny_folder),
            "unet": bits,
            "vae": bits,
            "method": "maxmin",
            "crops": 2,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
            **settings,
        }
        return api.calibrate(CalibrationSettings.model_validate(values), bits).name

    return run
