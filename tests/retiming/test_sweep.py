from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from passionsr_cli import api
from passionsr_cli.budget import Budget
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError


def _settings(folder: Path, bits: str) -> CalibrationSettings:
    options = {"model": str(folder), "method": "maxmin", "crops": 2, "crop_px": 32}
    return settings_for(bits, None, {**options, "device": "cpu", "precision": "fp32"})


def test_errors_over_the_timestep_are_measured_and_drawn(
    least_folder: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "sweep.svg"
    steps = [1, 199, 999]
    coarse = api.sweep_timesteps(
        _settings(least_folder, "w4a4"), steps, [str(least_folder)], picture
    )
    assert "<svg" in picture.read_text(encoding="utf-8")
    assert [row.timestep for row in coarse.rows] == steps
    # σ/α from the schedule's definition.
    signal = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    gains = [float(((1 - signal[t]) / signal[t]) ** 0.5) for t in steps]
    np.testing.assert_allclose([row.gain for row in coarse.rows], gains, rtol=1e-3)
    # At its own timestep a model is what it is, swept or not.
    assert coarse.rows[1] == coarse.retrained[0]
    fine = api.sweep_timesteps(_settings(least_folder, "w8a8"), steps)
    for row, finer in zip(coarse.rows, fine.rows, strict=True):
        assert 0 < finer.unet_error < row.unet_error
        assert finer.latent_error < row.latent_error
        assert finer.image_psnr > row.image_psnr
    # The same network's errors of ε, enlarged by the schedule alone.
    assert coarse.rows[2].unet_error > 5 * coarse.rows[0].unet_error


def test_a_budget_is_refused(least_folder: Path) -> None:
    settings = _settings(least_folder, "w4a4").model_copy(update={"budget": Budget(weight_bits=4)})
    with pytest.raises(ConfigError, match="leave out the budget"):
        api.sweep_timesteps(settings, [199])


def test_a_timestep_outside_the_schedule_stops_before_any_work(least_folder: Path) -> None:
    with pytest.raises(ConfigError, match="timestep 1000 is outside the schedule"):
        api.sweep_timesteps(_settings(least_folder, "w4a4"), [1, 1000])
