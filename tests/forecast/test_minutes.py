"""The minutes that a calibration is expected to take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from reporting import Heard, killed_at

from passionsr_cli import api, methods
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.forecast import minutes
from passionsr_cli.forecast.minutes import Forecast, Pace, StageWork, forecast
from passionsr_cli.models.one_step import OneStepModel

PACE = {"encoder": Pace(1.0, 0.5), "unet": Pace(10.0, 20.0), "decoder": Pace(100.0, 0.25)}
STEPS, IMAGES = 7, 3


def _settings(**changes: Any) -> CalibrationSettings:
    fit = {"component": {"steps": STEPS, "learning_rate": 0.5}}
    values = {"crops": IMAGES, "batch_size": 2, "method_settings": {"passionsr": fit}, **changes}
    return CalibrationSettings.model_validate(values)


def _forecast(model: OneStepModel, settings: CalibrationSettings) -> Forecast:
    return forecast(model, settings, methods.build(settings), IMAGES, PACE)


def test_what_learns_counts_by_steps_and_what_observes_by_images(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for factor in ("OBSERVING_PASSES", "ROUNDING_PASSES"):
        monkeypatch.setattr(minutes, factor, 1.0)
    monkeypatch.setattr(minutes, "STEP_PASSES", 3.0)
    found = _forecast(tiny_model, _settings())
    assert found.full_precision == IMAGES * 111
    learning = {name: work.learning for name, work in found.stages.items()}
    # Weights are rounded once a step, however many images it learns from.
    assert learning == {
        "encoder": 7 * (2 * 3 + 0.5),
        "unet": 7 * (2 * 3 * 10 + 20),
        "decoder": 7 * (2 * 3 * 100 + 0.25),
    }
    # Each of three images: two starts, its error before and after, the rest of the model, and what
    # the component before makes of it.
    assert found.stages["encoder"].observing == 3 * (2 * 1 + 2 * 1 + 111)
    assert found.stages["unet"].observing == 3 * (1 + 2 * 10 + 2 * 10 + 110)
    again = _forecast(tiny_model, _settings(gradient_checkpointing=True)).stages["unet"].learning
    passes, roundings = minutes.CHECKPOINTED_STEP_PASSES, minutes.CHECKPOINTED_ROUNDINGS
    assert again == pytest.approx(7 * (2 * passes * 10 + roundings * 20))


def test_what_comes_after_a_stage_rounds_nothing_yet(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minutes, "OBSERVING_PASSES", 0.0)
    monkeypatch.setattr(minutes, "ROUNDING_PASSES", 5.0)
    stages = _forecast(tiny_model, _settings()).stages
    # Its error twice, the image of its own rounding and what follows; what the one before makes.
    assert stages["encoder"].observing == 3 * (2 * 5 + 5 + 110)
    assert stages["unet"].observing == 3 * (5 + 2 * 50 + 50 + 100)


def test_what_stays_in_floating_point_takes_no_time(tiny_model: OneStepModel) -> None:
    assert list(_forecast(tiny_model, _settings(vae="fp")).stages) == ["unet"]
    assert list(_forecast(tiny_model, _settings(unet="fp")).stages) == ["encoder", "decoder"]


def test_a_stage_of_modules_has_the_steps_of_each(tiny_model: OneStepModel) -> None:
    own = {"qartsr": {"module": {"steps": 1, "learning_rate": 0.1}, "end_to_end": None}}
    settings = _settings(method="qartsr", method_settings=own, batch_size=1)
    found = _forecast(tiny_model, settings)
    one_step = minutes.STEP_PASSES * (10 + 100)
    assert found.stages["RPQ unet"].learning / one_step >= 3


def test_it_reads_as_minutes() -> None:
    works = {"unet": StageWork("unet", 60, 600), "decoder": StageWork("decoder", 0, 6)}
    assert (
        str(Forecast(30, works))
        == "takes about 12 minutes: full precision 0.5, unet 11, decoder 0.1"
    )


def test_a_pass_is_timed_through_each_component(tiny_model: OneStepModel) -> None:
    pace = minutes.measure_pace(tiny_model, torch.rand(1, 3, 32, 32))
    assert set(pace) == {"encoder", "unet", "decoder"}
    assert min(each.image for each in pace.values()) > 0
    assert min(each.weights for each in pace.values()) > 0


def test_a_calibration_tells_what_it_takes_before_it_begins(least_folder: Path) -> None:
    settings = _settings(model=str(least_folder), crop_px=32, device="cpu", precision="fp32")
    with killed_at("unet", 1) as killed:
        api.calibrate(settings, "told", killed)
    first, second = killed.texts[:2]
    assert re.fullmatch(r"takes about 1\.\d GB of memory and 0\.\d MB of disk", first)
    assert second == "takes less than a minute"
    # Of what is left of it, the progress tells.
    again = Heard()
    api.calibrate(settings, "told", again)
    assert not [text for text in again.texts if text.startswith("takes")]
