from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from calibrating import Finished, same_tensors
from reporting import Heard, Kill, KillAt, Place, killed_at

from passionsr_cli import api
from passionsr_cli.calibration import curve, engine
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.tensors import load_checkpoint
from passionsr_cli.checkpoints.unfinished import run_folder, unfinished
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, FitError, OutputError, StoreError
from passionsr_cli.imaging import samples
from passionsr_cli.models.loading import load, save
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.resampling import bicubic
from passionsr_cli.progress import NO_DETAILS
from passionsr_cli.quantization.schemes import Learnable
from passionsr_cli.system.claims import claim

STEPS = 6


def _settings(model: Path, **changes: Any) -> CalibrationSettings:
    fits = {
        name: {"steps": STEPS, "learning_rate": 0.5}
        for name in ("component", "let", "lbq", "joint")
    }
    own = {**fits, **changes.pop("passionsr", {})}
    values = {
        "model": str(model),
        "unet": "w4a4",
        "vae": "w4a4",
        "crops": 5,
        "crop_px": 32,
        "batch_size": 2,
        "device": "cpu",
        "precision": "fp32",
        "method_settings": {"passionsr": own},
        **changes,
    }
    return CalibrationSettings.model_validate(values)


def _tensors(name: str) -> dict[str, torch.Tensor]:
    return find_checkpoint(name).entry.tensors()


def test_learning_brings_the_image_nearer(least_folder: Path, finished: Finished) -> None:
    plain = finished(_settings(least_folder, method="maxmin"), "plain")
    learned = finished(_settings(least_folder), "learned")
    assert learned.manifest.image_psnr > plain.manifest.image_psnr
    assert [stage.name for stage in learned.manifest.stages] == [
        "encoder",
        "unet",
        "decoder",
    ]
    assert [stage.steps for stage in learned.manifest.stages] == [STEPS] * 3


@torch.no_grad()
def test_learning_the_noise_of_a_dial_helps_both_its_ends(dial_folder: Path) -> None:
    own = {"qdm": {"fit": {"steps": 40, "learning_rate": 0.15}}}
    values = {"vae": "fp", "crops": 6, "crop_px": 64, "method_settings": own}
    settings = [_settings(dial_folder, method=name, **values) for name in ("maxmin", "qdm")]
    entries = [api.calibrate(each, each.method) for each in settings]
    (unet,) = entries[1].manifest.stages
    assert unet.end_error < unet.start_error
    full = load(str(dial_folder))
    plain, learned = (load_checkpoint(entry) for entry in entries)
    assert learned.description == full.description
    photographs = [samples.low_resolution(f"sample:{name}") for name in ("coffee", "astronaut")]
    small = [each[:, at : at + 16, at : at + 16] for each in photographs for at in (10, 50)]
    latent = full.encode(torch.from_numpy(bicubic(np.stack(small), (64, 64))))
    for realism in (0, 1):
        wanted = full.predict(latent, realism)
        before, after = (
            (model.predict(latent, realism) - wanted).square().mean() for model in (plain, learned)
        )
        assert after < before


def test_both_ends_of_a_dial_count_where_its_default_is_one(
    least_description: ModelDescription, tmp_path: Path
) -> None:
    """Of two UNets the default image has one alone."""
    values = {**least_description.model_dump(), "name": "two", "unets": 2, "realism": 1.0}
    description = ModelDescription.model_validate(values)
    torch.manual_seed(0)
    save(tmp_path / "two", OneStepModel(description), {})
    own = {"lsq": {"fit": {"steps": 20, "learning_rate": 0.15}, "distributed": True}}
    changes = {"method": "lsq", "vae": "fp", "method_settings": own}
    entry = api.calibrate(_settings(tmp_path / "two", **changes), "two")
    assert entry.manifest.model.description.realism == 1
    own["lsq"]["fit"] = {"steps": 1, "learning_rate": 1e-9}
    api.calibrate(_settings(tmp_path / "two", **changes), "start")
    learned, started = _tensors("two"), _tensors("start")
    for end in ("faithful", "natural"):
        scales = [name for name in started if f"unet.{end}." in name and name.endswith("_scale")]
        moved = [n for n in scales if not torch.allclose(learned[n], started[n], rtol=1e-5)]
        assert len(moved) > len(scales) / 2 > 0

    budget = {"method": "maxmin", "budget": "5bit", "unet": "w8a8", "vae": "w8a8"}
    layers = api.calibrate(_settings(tmp_path / "two", **budget), "mixed").manifest.layers
    bits = [each.weight.num_bits for each in layers if "unet.faithful." in each.name if each.weight]
    assert max(bits) > 2


def test_a_stage_that_makes_it_worse_keeps_its_start(least_folder: Path) -> None:
    # Steps as large as whole ranges, towards the end of which nothing is left of the image.
    wild = {"steps": 3, "learning_rate": 200.0, "schedule": "milestones", "milestones": ()}
    entry = api.calibrate(_settings(least_folder, passionsr={"component": wild}), "wild")
    plain = api.calibrate(
        _settings(least_folder, passionsr={"component": {**wild, "learning_rate": 1e-9}}), "still"
    )
    first = entry.manifest.stages[0]
    assert first.end_error > first.start_error
    assert first.start_error == plain.manifest.stages[0].start_error
    one, two = _tensors("wild"), _tensors("still")
    encoder = [name for name in one if name.startswith("vae.encoder")]
    assert all(torch.equal(one[name], two[name]) for name in encoder if name.endswith("weight"))


def test_a_stage_is_judged_by_what_it_lowers(
    least_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are brighter, and so nearer by the distance, are farther by their pixels."""

    def brightness(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 10 - images.mean()

    monkeypatch.setattr(engine, "perceptual_distance", lambda *_: ("brightness", brightness))
    fit = {"steps": 4, "learning_rate": 0.5}
    ranks = {"linear": 2, "convolution": 2}
    own = {"ranks": ranks, "module": None, "end_to_end": fit}
    own |= {"output_weight": 0.0, "perceptual_weight": 1.0}
    settings = _settings(least_folder, method="qartsr", method_settings={"qartsr": own})
    stage = api.calibrate(settings, "bright").manifest.stages[-1]
    assert 5 < stage.end_error < stage.start_error


STAGES_STOPPED: list[Place] = [
    ("full precision", 3),
    ("encoder LET: observing", 4),
    ("encoder LET", 3),
    ("quantized encoder", 2),
    ("unet LBQ", STEPS),
    ("decoder LBQ", 1),
]


@pytest.mark.parametrize("place", STAGES_STOPPED)
def test_a_resumed_run_ends_bit_for_bit_like_an_undisturbed_one(
    least_folder: Path, finished: Finished, place: Place
) -> None:
    settings = _settings(least_folder, passionsr={"separate": True})
    finished.stopped(settings, STAGES_STOPPED, place, "stopped")
    assert unfinished() == ["stopped"]
    heard = Heard()
    stopped = api.calibrate(settings, "stopped", reporter=heard)
    fitted = [task for task, _, details in heard.steps if "lr" in details]
    # It went on, it did not start over.
    assert len(fitted) < 6 * STEPS or place[0] in ("full precision", "encoder LET: observing")
    assert same_tensors(stopped, finished(settings, "undisturbed"))
    assert unfinished() == []


def test_a_second_look_at_the_ranges_is_no_first_one(tiny_folder: Path, finished: Finished) -> None:
    """Layers are observed for their transformations, and through these for their bounds."""
    settings = _settings(tiny_folder, method="qdm", vae="fp", observing_batch_size=2)
    settings.method_settings["qdm"] = {"fit": {"steps": 1, "learning_rate": 0.1}}
    with killed_at("unet: observing", 4, time=2) as reporter:
        api.calibrate(settings, "stopped", reporter=reporter)
    stopped = api.calibrate(settings, "stopped")
    assert same_tensors(stopped, finished(settings, "undisturbed"))


MODULES_STOPPED: list[Place] = [
    ("RPQ decoder", 3),
    ("RPQ unet: observing", 2),
    ("RPQ unet", 9),
    ("ET", 2),
]


@pytest.mark.parametrize("place", MODULES_STOPPED)
def test_a_run_module_by_module_is_resumed_bit_for_bit(
    least_folder: Path, finished: Finished, place: Place
) -> None:
    own = {
        "module": {"steps": 2, "learning_rate": 0.3},
        "end_to_end": {"steps": 3, "learning_rate": 0.1},
        "ranks": {"linear": 4},
        "merged_ranks": {"convolution": 2},
    }
    few = {"crops": 3, "observing_batch_size": 2}
    settings = _settings(least_folder, method="qartsr", method_settings={"qartsr": own}, **few)
    finished.stopped(settings, MODULES_STOPPED, place, "stopped")
    stopped = api.calibrate(settings, "stopped")
    assert same_tensors(stopped, finished(settings, "undisturbed"))


def test_a_stage_does_not_take_up_the_fit_of_the_one_before(
    least_folder: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between saving that a stage is over and removing the state of its fit."""
    settings = _settings(least_folder, vae="fp", crops=2, passionsr={"separate": True})
    plain = engine.Calibration._save

    def save_and_end(self: engine.Calibration) -> None:
        plain(self)
        if self.results:
            raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(engine.Calibration, "_save", save_and_end)
        with pytest.raises(Kill):
            api.calibrate(settings, "killed")
    assert (run_folder("killed") / engine.FIT_FILE).exists()
    assert same_tensors(api.calibrate(settings, "killed"), finished(settings, "undisturbed"))


def test_other_settings_cannot_take_up_a_run(least_folder: Path) -> None:
    with pytest.raises(Kill):
        api.calibrate(_settings(least_folder), "mine", reporter=KillAt("encoder", 2))
    with pytest.raises(ConfigError, match="'mine' was begun with another crops: 5, not 7"):
        api.calibrate(_settings(least_folder, crops=7), "mine")
    slower = {"component": {"steps": STEPS, "learning_rate": 0.001}}
    api.calibrate(_settings(least_folder, passionsr=slower), "mine")


def test_one_calibration_of_a_name_at_a_time(least_folder: Path) -> None:
    settings = _settings(least_folder, method="maxmin")
    held = rf"process {os.getpid()} on .*, calibrating since"
    with claim(run_folder("mine"), "calibrating"):
        with pytest.raises(OutputError, match=held):
            api.calibrate(settings, "mine")
        with pytest.raises(StoreError, match="no checkpoint named 'mine'"):
            find_checkpoint("mine")
    assert api.calibrate(settings, "mine").name == "mine"
    assert not run_folder("mine").exists()


def test_a_name_is_taken_once(least_folder: Path) -> None:
    settings = _settings(least_folder, method="maxmin")
    entry = api.calibrate(settings)
    assert entry.name == "least-w4a4-maxmin"
    # The same call again has nothing to do, with other settings it would replace what is there.
    notes = Heard()
    assert api.calibrate(settings, reporter=notes).manifest == entry.manifest
    assert notes.texts == ["'least-w4a4-maxmin' is finished already"]
    with pytest.raises(StoreError, match="'least-w4a4-maxmin' exists already"):
        api.calibrate(settings.model_copy(update={"seed": 1}))


def test_a_value_that_is_not_finite_names_stage_step_and_layer(
    least_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from passionsr_cli.calibration import engine

    class Poison(Heard):
        def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
            if (task, done) == ("unet", 3):
                layer = calibrations[0].layers["unet.mid_block.resnets.0.conv1"]
                for parameter in layer.learnable()[Learnable.TRANSFORM][0].parameters():
                    parameter.data.fill_(math.nan)

    calibrations: list[engine.Calibration] = []
    plain = engine.Calibration.__init__

    def remember(self: engine.Calibration, *args: Any) -> None:
        calibrations.append(self)
        plain(self, *args)

    monkeypatch.setattr(engine.Calibration, "__init__", remember)
    with pytest.raises(FitError) as caught:
        api.calibrate(_settings(least_folder), "poisoned", reporter=Poison())
    assert "unet: the error loss became nan at step 4" in str(caught.value)
    assert "first in layer unet.mid_block.resnets.0.conv1" in str(caught.value)
    assert "keeps the best state" in str(caught.value)
    # What was kept is of use.
    api.calibrate(_settings(least_folder), "poisoned")


def test_a_loss_that_grows_stops_and_the_best_state_stays(least_folder: Path) -> None:
    fit = {"steps": 200, "learning_rate": 50.0, "gradient_clip": 1e9}
    wild = {"separate": True, "let": fit}
    with pytest.raises(
        FitError, match=r"encoder LET: the .*error loss .* at step \d+ \(.*layer vae"
    ):
        api.calibrate(_settings(least_folder, passionsr=wild), "wild")
    saved = torch.load(run_folder("wild") / "fit.pt", weights_only=True)
    assert saved["step"] < 200
    parameters = [
        value
        for layer in saved["tracked"]["layers"].values()
        for value in layer.values()
        if isinstance(value, torch.Tensor)
    ]
    assert all(bool(value.isfinite().all()) for value in parameters)


def test_the_ablation_of_the_paper_is_configuration(least_folder: Path) -> None:
    joint = {"distributed": False}
    bare = {"transformation": False, "distributed": False}
    for name, changes in (("let", joint), ("lbq", bare)):
        entry = api.calibrate(_settings(least_folder, passionsr=changes), name)
        assert [stage.name for stage in entry.manifest.stages] == ["joint"]
    transformed = [key for key in _tensors("let") if key.endswith("channel_scale")]
    assert len(transformed) > 40
    assert not [key for key in _tensors("lbq") if key.endswith("channel_scale")]


def test_gradient_checkpointing_changes_nothing_but_memory(
    least_folder: Path, finished: Finished
) -> None:
    one = finished(_settings(least_folder), "plain").manifest.stages
    saving = _settings(least_folder, gradient_checkpointing=True)
    two = api.calibrate(saving, "saving").manifest.stages
    for plain, other in zip(one, two, strict=True):
        assert plain.end_error == pytest.approx(other.end_error, rel=1e-3)


def test_the_unet_alone_can_be_calibrated(least_folder: Path) -> None:
    entry = api.calibrate(_settings(least_folder, vae="fp"), "unet-only")
    assert [stage.name for stage in entry.manifest.stages] == ["unet"]
    assert entry.manifest.bits == "unet-w4a4-vae-fp"


def test_photographs_can_be_the_decoders_target(least_folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    api.calibrate(_settings(least_folder, passionsr={"decoder_target": "hr"}), "hr")
    (tmp_path / "lr").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "lr" / "a.png")
    settings = _settings(least_folder, images=tmp_path / "lr", passionsr={"decoder_target": "hr"})
    with pytest.raises(ConfigError, match="target is 'hr', but the images are low-resolution"):
        api.calibrate(settings, "lr")


def test_stages_are_reported(least_folder: Path) -> None:
    heard = Heard()
    entry = api.calibrate(_settings(least_folder), "heard", reporter=heard)
    assert tuple(heard.results) == entry.manifest.stages
    assert len(heard.results) == 3
    assert all(result.image_psnr > 10 for result in entry.manifest.stages)
    assert all(result.start_error and result.end_error for result in entry.manifest.stages)
    psnr = entry.manifest.stages[0].image_psnr
    assert str(heard.results[0]).startswith(f"encoder: {psnr:.2f} dB to full precision, ")


def test_a_stages_seconds_are_those_of_looking_at_its_images_too(
    least_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands still but for that: a second for each image."""
    now = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 0.0)

    def look(image: torch.Tensor, wanted: torch.Tensor) -> float:
        second = float(next(now) + 1)
        clock.monotonic = lambda: second
        return 30.0

    monkeypatch.setattr(curve, "time", clock)
    monkeypatch.setattr(engine, "psnr", look)
    settings = _settings(least_folder, method="maxmin", crops=2)
    stages = api.calibrate(settings, "looked").manifest.stages
    assert [stage.seconds for stage in stages] == [2.0] * len(stages)


def test_a_stages_seconds_are_those_of_all_runs(least_folder: Path) -> None:
    """While it is to be killed a minute passes with every look at the clock."""
    with killed_at("unet", 4) as killed:
        api.calibrate(_settings(least_folder), "again", reporter=killed)
    stage = api.calibrate(_settings(least_folder), "again").manifest.stages[1]
    assert stage.steps == STEPS
    assert 3 * 60 < stage.fit_seconds < stage.seconds


def test_a_full_disk_is_one_line_and_loses_nothing(least_folder: Path) -> None:
    """Files may not grow beyond a limit, as on a disk that is full."""
    resource = pytest.importorskip("resource")

    class FullDisk(Heard):
        def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
            if task == "unet":
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(
            StoreError, match=r"cannot write under .*; make room and start it again"
        ):
            api.calibrate(_settings(least_folder), "full", reporter=FullDisk())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    heard = Heard()
    api.calibrate(_settings(least_folder), "full", reporter=heard)
    assert next(task for task, _, details in heard.steps if "lr" in details) == "unet"


def test_a_layer_that_sees_only_zeros_is_no_obstacle(
    tiny_model: OneStepModel, tmp_path: Path
) -> None:
    """Such as cross-attention over a context of zeros."""
    torch.nn.init.zeros_(tiny_model.context)
    save(tmp_path / "zeros", tiny_model, {})
    settings = _settings(tmp_path / "zeros")
    entry = api.calibrate(settings, "zeros")
    assert bool(load_checkpoint(entry)(torch.rand(1, 3, 32, 32)).isfinite().all())
