"""The progress of a calibration as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from reporting import Heard, killed_at

from passionsr_cli import api
from passionsr_cli.calibration.whole import TASK, Whole
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.forecast.minutes import StageWork


def _places(heard: Heard) -> list[tuple[float, float]]:
    """(percent, stage) of each step of the whole."""
    return [(done, details["stage"]) for task, done, details in heard.steps if task == TASK]


def test_work_counts_by_its_seconds() -> None:
    heard = Heard()
    whole = Whole(heard)
    whole.started("full precision", 4)
    whole.step("full precision", 4)
    whole.plan(20, [StageWork("unet", 10, 30), StageWork("decoder", 10, 30)])
    whole.enter(0)
    for task, done in (("unet: observing", 5), ("unet: observing", 10), ("unet", 1), ("unet", 2)):
        whole.started(task, 10 if "observing" in task else 2)
        whole.step(task, done)
    whole.enter(1)
    whole.started("decoder", 10)
    whole.step("decoder", 10)
    assert _places(heard) == [(20, 1), (25, 1), (30, 1), (45, 1), (60, 1), (60, 2), (100, 2)]
    assert ("unet", 2.0) in heard.places


def test_a_stage_that_learns_nothing_ends_whole() -> None:
    heard = Heard()
    whole = Whole(heard)
    whole.plan(0, [StageWork("min-max", 10, 1)])
    whole.enter(0)
    whole.started("min-max: observing", 10)
    whole.step("min-max: observing", 10)
    assert _places(heard)[-1] == (pytest.approx(1000 / 11), 1)
    whole.done("min-max: 40 dB")
    assert _places(heard)[-1] == (100, 1)


@pytest.mark.parametrize("method", ["passionsr", "qartsr"])
def test_every_stage_is_seen_and_none_goes_back(least_folder: Path, method: str) -> None:
    small = {"steps": 2, "learning_rate": 0.1}
    own = {
        "passionsr": {"component": small},
        "qartsr": {
            "module": {**small, "steps": 1},
            "end_to_end": small,
            "ranks": {"linear": 4},
            "merged_ranks": {"convolution": 2},
        },
    }
    settings = CalibrationSettings.model_validate(
        {
            "model": str(least_folder),
            "method": method,
            "unet": "w4a4",
            "vae": "w4a4",
            "crops": 2,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
            "method_settings": {method: own[method]},
        }
    )
    heard = Heard()
    with killed_at("decoder" if method == "passionsr" else "ET", 1) as killed:
        api.calibrate(settings, "stopped", killed)
    stages = len(api.calibrate(settings, "stopped", heard).manifest.stages)
    percents, numbers = zip(*_places(heard), strict=True)
    assert list(percents) == sorted(percents)
    assert percents[-1] == pytest.approx(100)
    assert set(numbers) == {stages}
    # What an earlier run has done counts.
    assert percents[0] > 50
