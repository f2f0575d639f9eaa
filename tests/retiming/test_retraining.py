"""A complete move of a tiny model to another timestep, killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from reporting import killed_at

from passionsr_cli import api
from passionsr_cli.data.resampling import bicubic
from passionsr_cli.errors import ConfigError, ImageError, StoreError
from passionsr_cli.imaging import samples
from passionsr_cli.layering import settings_from, validate
from passionsr_cli.models import catalogue, loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.retiming.retime import moved
from passionsr_cli.retiming.settings import RetrainingSettings
from passionsr_cli.store import Store
from passionsr_cli.system.paths import home


@pytest.fixture
def values(least_folder: Path) -> dict[str, Any]:
    chosen = settings_from(
        "retrain", RetrainingSettings, {"model": str(least_folder), "timestep": 49, "lora_rank": 2}
    ).model_dump(mode="json")
    stage = {"steps": 4, "batch_size": 2, "crop_px": 64, "learning_rate": 1e-3}
    chosen["stages"] = [
        {"name": "first", "target": "latent", **stage},
        {"name": "second", "target": "image", **stage},
    ]
    chosen.update(validation_crops=1, validation_every_steps=2, workers=0)
    return chosen


def _settings(values: dict[str, Any], **changes: Any) -> RetrainingSettings:
    return validate({**values, **changes}, RetrainingSettings, "test")


def test_killed_and_resumed_it_ends_like_an_undisturbed_run(
    values: dict[str, Any],
) -> None:
    settings = _settings(values)
    api.retrain(settings, None, "whole", "cpu", "fp32")
    # In the middle of each stage.
    for stage, step in (("first", 3), ("second", 2)):
        with killed_at(stage, step) as reporter:
            api.retrain(settings, None, "broken", "cpu", "fp32", reporter=reporter)
    with pytest.raises(ConfigError, match="unfinished training with other settings"):
        api.retrain(_settings(values, timestep=99), None, "broken", "cpu", "fp32")
    entry = api.retrain(settings, None, "broken", "cpu", "fp32")
    whole, broken = (Store("model").read(name).tensors() for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    rows = [(row["stage"], row["step"]) for row in entry.manifest["curve"]]
    assert rows == [("start", 0), ("first", 2), ("first", 4), ("second", 2), ("second", 4)]
    assert not (home() / "training" / "broken").exists()


@pytest.mark.gpu
@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_move_goes_on_with_another_device(first: str, then: str, values: dict[str, Any]) -> None:
    settings = _settings(values)
    with killed_at("second", 2) as reporter:
        api.retrain(settings, None, "broken", first, "fp32", reporter=reporter)
    entry = api.retrain(settings, None, "broken", then, "fp32")
    assert len(entry.manifest["curve"]) == 5
    assert all(tensor.isfinite().all() for tensor in entry.tensors().values())


def test_a_moved_model_can_be_used_and_says_what_it_was_made_from(
    values: dict[str, Any], least_folder: Path
) -> None:
    entry = api.retrain(_settings(values), None, "moved", "cpu", "fp32")
    known = catalogue.find("moved")
    assert (known.name, known.description.name, known.description.timestep) == (
        "moved",
        "moved",
        49,
    )
    made_from = entry.manifest["made_from"]["model"]
    assert made_from == {
        "name": str(least_folder),
        "sha256": catalogue.find(str(least_folder)).sha256,
        "timestep": 199,
    }
    assert entry.manifest["retraining"]["lora_rank"] == 2
    # Nothing but the UNet was moved, and to float32, not to the halves of a trained model.
    model, before = loading.load("moved"), loading.load(str(least_folder))
    for name, tensor in before.vae.state_dict().items():
        assert torch.equal(model.vae.state_dict()[name], tensor), name
    assert entry.tensors()["unet.conv_in.weight"].dtype == torch.float32
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).isfinite().all()
    assert api.retrain(_settings(values), None, "moved", "cpu", "fp32").manifest == entry.manifest
    with pytest.raises(StoreError, match="'moved' exists already"):
        api.retrain(_settings(values, seed=5), None, "moved", "cpu", "fp32")


def test_what_is_finished_learned_from_the_same_photographs(
    values: dict[str, Any], tmp_path: Path
) -> None:
    settings = _settings(values, stages=[{**values["stages"][0], "steps": 1}])
    Image.new("RGB", (64, 64), "red").save(tmp_path / "one.png")
    made = api.retrain(settings, tmp_path, "moved", "cpu", "fp32")
    assert api.retrain(settings, tmp_path, "moved", "cpu", "fp32").manifest == made.manifest
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "one.png")
    with pytest.raises(StoreError, match="'moved' exists already"):
        api.retrain(settings, tmp_path, "moved", "cpu", "fp32")


@torch.no_grad()
def test_it_comes_nearer_to_its_teacher(values: dict[str, Any]) -> None:
    stage = {**values["stages"][0], "steps": 60, "learning_rate": 3e-3}
    api.retrain(_settings(values, stages=[stage], lora_rank=4), None, "near", "cpu", "fp32")
    lr = torch.from_numpy(samples.low_resolution("sample:rocket"))
    upscaled = bicubic(lr[None, :, :16, :16], (64, 64))
    teacher, start = loading.load(values["model"]), moved(catalogue.find(values["model"]), 49)
    wanted = _restored(teacher, upscaled)
    before, after = (
        (_restored(model, upscaled) - wanted).square().mean()
        for model in (start, loading.load("near"))
    )
    assert after < 0.7 * before


@torch.no_grad()
def test_a_dial_comes_nearer_at_both_its_ends(values: dict[str, Any], dial_folder: Path) -> None:
    stage = {**values["stages"][0], "steps": 60, "learning_rate": 3e-3}
    settings = _settings(values, model=str(dial_folder), stages=[stage], lora_rank=4)
    api.retrain(settings, None, "near", "cpu", "fp32")
    lr = torch.from_numpy(samples.low_resolution("sample:rocket"))
    upscaled = bicubic(lr[None, :, :16, :16], (64, 64))
    teacher, start = loading.load(str(dial_folder)), moved(catalogue.find(str(dial_folder)), 49)
    for realism in (0, 1):
        wanted = _restored(teacher, upscaled, realism)
        before, after = (
            (_restored(model, upscaled, realism) - wanted).square().mean()
            for model in (start, loading.load("near"))
        )
        assert after < 0.7 * before


def _restored(
    model: OneStepModel, upscaled: torch.Tensor, realism: float | None = None
) -> torch.Tensor:
    low = model.encode(upscaled)
    return model.to_x0(low, model.predict(low, realism))


def test_photographs_can_be_the_teacher_and_the_encoder_can_learn(values: dict[str, Any]) -> None:
    changes = {"teacher": "hr", "components": ["encoder", "unet"], "stages": values["stages"][1:]}
    entry = api.retrain(_settings(values, **changes), None, "hr", "cpu", "fp32")
    before = loading.load(values["model"]).vae.state_dict()
    after = loading.load("hr").vae.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("encoder.") for name in changed)
    assert not any(name.startswith("decoder.") for name in changed)
    assert entry.manifest["retraining"]["teacher"] == "hr"


def test_what_cannot_be_is_said(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="teacher hr needs a stage whose target is 'image'"):
        _settings(values, teacher="hr", stages=values["stages"][:1])
    for changes, message in (
        ({"timestep": 1000}, "timestep 1000 is outside the schedule"),
        ({"stages": [{**values["stages"][0], "crop_px": 62}]}, "crop_px must be a multiple of 4"),
    ):
        with pytest.raises(ConfigError, match=message):
            api.retrain(_settings(values, **changes), None, "x", "cpu", "fp32")
    with pytest.raises(ImageError, match="no such folder"):
        api.retrain(_settings(values), tmp_path / "none", "x", "cpu", "fp32")
    assert not (home() / "training" / "x").exists()
