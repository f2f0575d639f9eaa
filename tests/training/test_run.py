"""A complete training of a tiny model on real photographs, killed and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from reporting import Heard, Kill, KillAt, killed_at
from torch import nn

from passionsr_cli import api
from passionsr_cli.data.photographs import Photographs
from passionsr_cli.errors import ConfigError, ImageError, ModelError, StoreError
from passionsr_cli.imaging import samples
from passionsr_cli.layering import settings_from, validate
from passionsr_cli.models import loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.arrays import rounded_levels
from passionsr_cli.store import Store
from passionsr_cli.system.devices import accelerator
from passionsr_cli.system.paths import home
from passionsr_cli.training.batches import TrainingBatches
from passionsr_cli.training.initialisation import start_as_interpolator
from passionsr_cli.training.run import ORIGIN_FILE, SETTINGS_FILE, run_folder
from passionsr_cli.training.settings import TrainingSettings
from passionsr_cli.training.trainer import Trainer
from passionsr_cli.training.validation import Validation, append_row, drop_rows_beyond


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee", "chelsea"):
        pixels = rounded_levels(samples.high_resolution(f"sample:{name}")[:, :192, :192])
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> TrainingSettings:
    """A stage of each kind: on pixels alone, with critics, and with a teacher (a tiny one)."""
    monkeypatch.setattr(
        "passionsr_cli.training.taught.load_real_esrgan", lambda path: nn.Upsample(scale_factor=4)
    )
    preset = settings_from("train-mini", TrainingSettings).model_dump(mode="json")
    preset["model"]["vae"].update(block_out_channels=[32], latent_channels=12)
    preset["model"]["unet"].update(
        in_channels=12,
        out_channels=24,
        block_out_channels=[16, 16, 32],
        attention_head_dim=[1, 1, 2],
    )
    stage = {"steps": 4, "batch_size": 2, "crop_px": 64, "learning_rate": 1e-4}
    critics = {
        "low_pass": 1.0,
        "features": 0.1,
        "artifacts": 1.0,
        "patch_critic": 0.005,
        "projected_critic": 0.01,
    }
    preset["stages"] = [
        {"name": "pixels", "final_learning_rate": 1e-5, **stage},
        {"name": "critics", "final_learning_rate": 1e-5, "natural": critics, **stage},
        {"name": "teacher", "final_learning_rate": 1e-5, "natural": {"teacher": 1.0}, **stage},
    ]
    preset["teacher"] = {"weights": "tiny", "crops": 3, "crop_px": 96}
    preset.update(workers=0, validation_photos=1, validation_every_steps=2, save_every_seconds=1)
    return validate(preset, TrainingSettings, "test")


def test_killed_and_resumed_it_ends_like_an_undisturbed_run(
    settings: TrainingSettings, photos: Path
) -> None:
    api.train(settings, photos, "whole", "cpu", "fp32")
    # In the middle of each stage.
    for stage, step in (("pixels", 3), ("critics", 2), ("teacher", 2)):
        with killed_at(stage, step) as reporter:
            api.train(settings, photos, "broken", "cpu", "fp32", reporter=reporter)
    resumed = Heard()
    api.train(settings, photos, "broken", "cpu", "fp32", resumed)
    # What was told is kept.
    assert [place for place in resumed.places if place[0] == "teacher"] == [
        ("teacher", 3),
        ("teacher", 4),
    ]
    whole, broken = (Store("model").read(name).tensors() for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


@pytest.mark.parametrize("saved", [False, True])
def test_what_was_measured_beyond_the_saved_step_is_measured_once(
    saved: bool, settings: TrainingSettings, photos: Path
) -> None:
    stages = tuple(
        settings.stages[0].model_copy(update={"name": name, "steps": 2}) for name in ("one", "two")
    )
    changes = {"stages": stages, "validation_every_steps": 1, "save_every_seconds": 1000}
    short = settings.model_copy(update=changes)
    with pytest.raises(Kill):
        # What is saved is the end of the first stage, or nothing.
        api.train(short, photos, "mine", "cpu", "fp32", KillAt("two" if saved else "one", 2))
    rows = api.train(short, photos, "mine", "cpu", "fp32").manifest["curve"]
    assert [(row["stage"], row["step"]) for row in rows] == [
        (stage, step) for stage in ("one", "two") for step in ("1", "2")
    ]


def test_what_is_left_of_a_finished_run_is_not_taken_up(
    settings: TrainingSettings, photos: Path
) -> None:
    stages = tuple(settings.stages[0].model_copy(update={"name": name}) for name in ("one", "two"))
    short = settings.model_copy(update={"stages": stages})
    with pytest.raises(Kill):
        api.train(short, photos, "mine", "cpu", "fp32", KillAt("two", 1))
    # As if it had been killed while the folder of its finished run was removed.
    (run_folder(Store("model"), "mine") / SETTINGS_FILE).unlink()
    other = short.model_copy(update={"seed": 1})
    mine, fresh = (api.train(other, photos, name, "cpu", "fp32") for name in ("mine", "fresh"))
    pairs = zip(mine.tensors().values(), fresh.tensors().values(), strict=True)
    assert all(torch.equal(one, another) for one, another in pairs)


def test_rows_of_a_curve_are_kept_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    drop_rows_beyond(path, {})
    for stage, step in (("one", 5), ("two", 5), ("two", 15)):
        append_row(path, Validation(stage, step, 1.5, 30.25, None, 20.0))
    before = path.read_bytes()
    drop_rows_beyond(path, {"one": 5, "two": 15})
    assert path.read_bytes() == before
    with path.open("ab") as file:
        file.write(b"two,2")  # of 20, cut off
    drop_rows_beyond(path, {"one": 5, "two": 15})
    assert path.read_bytes() == before
    drop_rows_beyond(path, {"one": 5, "two": 14})
    assert path.read_bytes() == before[: before.index(b"two,15")]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_in_every_precision(
    precision: str, settings: TrainingSettings, photos: Path
) -> None:
    torch.cuda.reset_peak_memory_stats()
    entry = api.train(settings, photos, "mine", "cuda", precision)
    assert len(entry.manifest["curve"]) == 6
    assert torch.cuda.max_memory_allocated() > 10**6
    assert loading.load("mine")(torch.rand(1, 3, 64, 64)).isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_training_goes_on_with_another_device(
    first: str, then: str, settings: TrainingSettings, photos: Path
) -> None:
    for stage, step in (("pixels", 3), ("critics", 2), ("teacher", 2)):
        with killed_at(stage, step) as reporter:
            api.train(settings, photos, "broken", first, "fp32", reporter=reporter)
        first, then = then, first
    entry = api.train(settings, photos, "broken", first, "fp32")
    assert len(entry.manifest["curve"]) == 6
    assert all(tensor.isfinite().all() for tensor in entry.tensors().values())


def test_a_training_gives_a_model_that_can_be_used(
    settings: TrainingSettings, photos: Path
) -> None:
    heard = Heard()
    entry = api.train(settings, photos, "mine", "cpu", "fp32", heard)
    scores = heard.results
    stages = [name for name in ("pixels", "critics") for _ in range(4)]
    # What the teacher answers comes before its stage.
    tasks = [*stages, *["teacher's crops"] * 3, *["teacher"] * 4]
    assert [task for task, _ in heard.places] == tasks
    assert [(s.stage, s.step) for s in scores] == [
        (stage, step) for stage in ("pixels", "critics", "teacher") for step in (2, 4)
    ]
    assert len(entry.manifest["curve"]) == 6
    assert not (home() / "training" / "mine").exists()
    model = loading.load("mine")
    assert model(torch.rand(1, 3, 64, 64)).isfinite().all()
    assert api.train(settings, photos, "mine", "cpu", "fp32").manifest == entry.manifest
    with pytest.raises(StoreError, match="'mine' exists already"):
        api.train(settings.model_copy(update={"seed": 5}), photos, "mine", "cpu", "fp32")


def test_only_what_learns_changes(settings: TrainingSettings, photos: Path) -> None:
    stages = tuple(s.model_copy(update={"learns": ("unet",)}) for s in settings.stages[:1])
    tensors = api.train(
        settings.model_copy(update={"stages": stages}), photos, "mine", "cpu", "fp32"
    ).tensors()
    torch.manual_seed(settings.seed)
    start = OneStepModel(settings.model)
    start_as_interpolator(start)
    changed = {
        name
        for name, value in start.state_dict().items()
        if not torch.equal(value.half(), tensors[name])
    }
    assert changed
    assert all(name.startswith("unet.") for name in changed)


def test_the_natural_end_leaves_the_faithful_one(settings: TrainingSettings, photos: Path) -> None:
    api.train(settings, photos, "mine", "cpu", "fp32")
    model = loading.load("mine")
    upscaled = torch.rand(1, 3, 64, 64)
    latent = model.encode(upscaled)
    assert not torch.equal(model.predict(latent, 0.0), model.predict(latent, 1.0))


def test_a_training_goes_on_from_a_model(settings: TrainingSettings, photos: Path) -> None:
    api.train(settings, photos, "first", "cpu", "fp32")
    stage = settings.stages[1].model_copy(update={"learning_rate": 0.0, "final_learning_rate": 0.0})
    further = settings.model_copy(update={"start_from": "first", "stages": (stage,)})
    api.train(further, photos, "second", "cpu", "fp32")
    first, second = (Store("model").read(name).tensors() for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    wider = settings.model.model_copy(
        update={"unet": {**settings.model.unet, "block_out_channels": [16, 64, 32]}}
    )
    with pytest.raises(ModelError, match="does not fit its description"):
        api.train(further.model_copy(update={"model": wider}), photos, "third", "cpu", "fp32")


def test_an_unfinished_run_is_not_mixed_with_other_settings(
    settings: TrainingSettings, photos: Path
) -> None:
    with pytest.raises(Kill):
        api.train(settings, photos, "mine", "cpu", "fp32", KillAt("pixels", 1))
    other = settings.model_copy(update={"seed": 5})
    with pytest.raises(ConfigError, match="unfinished training with other settings"):
        api.train(other, photos, "mine", "cpu", "fp32")


@pytest.fixture
def short(settings: TrainingSettings) -> TrainingSettings:
    """One stage of two steps."""
    stage = settings.stages[0].model_copy(update={"steps": 2, "batch_size": 1})
    return settings.model_copy(update={"stages": (stage,), "save_every_seconds": 1000})


def _repaint(photos: Path) -> None:
    """Other photographs under the same names."""
    for path in photos.iterdir():
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.ROTATE_180)
        turned.save(path)


def test_what_is_finished_is_the_same_photographs_and_the_same_architecture(
    short: TrainingSettings, photos: Path
) -> None:
    made = api.train(short, photos, "mine", "cpu", "fp32")
    later = short.model.model_copy(update={"timestep": 77})
    with pytest.raises(StoreError, match="'mine' exists already"):
        api.train(short.model_copy(update={"model": later}), photos, "mine", "cpu", "fp32")
    moved = photos.rename(photos.with_name("elsewhere"))
    assert api.train(short, moved, "mine", "cpu", "fp32").manifest == made.manifest
    # Without its photographs it is as finished as it was.
    assert api.train(short, photos, "mine", "cpu", "fp32").manifest == made.manifest
    _repaint(moved)
    with pytest.raises(StoreError, match="'mine' exists already"):
        api.train(short, moved, "mine", "cpu", "fp32")


@pytest.mark.parametrize("noted", [True, False])
def test_an_unfinished_run_is_not_mixed_with_other_photographs(
    noted: bool, short: TrainingSettings, photos: Path
) -> None:
    with pytest.raises(Kill):
        api.train(short, photos, "mine", "cpu", "fp32", KillAt("pixels", 1))
    _repaint(photos)
    if not noted:
        # As older versions left it.
        (home() / "training" / "mine" / ORIGIN_FILE).unlink()
        assert api.train(short, photos, "mine", "cpu", "fp32").name == "mine"
        return
    with pytest.raises(ConfigError, match="unfinished training with other photographs"):
        api.train(short, photos, "mine", "cpu", "fp32")


def test_an_unfinished_run_starts_from_the_same_weights(
    short: TrainingSettings, photos: Path, tmp_path: Path
) -> None:
    loading.save(tmp_path / "start", OneStepModel(short.model), {})
    further = short.model_copy(update={"start_from": str(tmp_path / "start")})
    with pytest.raises(Kill):
        api.train(further, photos, "mine", "cpu", "fp32", KillAt("pixels", 1))
    loading.save(tmp_path / "start", OneStepModel(short.model), {})
    with pytest.raises(ConfigError, match="unfinished training with a model of other weights"):
        api.train(further, photos, "mine", "cpu", "fp32")


def test_photographs_that_are_missing_or_small_are_named(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="no such folder"):
        api.train(settings, tmp_path / "nowhere", "mine", "cpu", "fp32")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="empty: no images in this folder; --photos needs some"):
        api.train(settings, tmp_path / "empty", "mine", "cpu", "fp32")
    (tmp_path / "small").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "small" / "tiny.png")
    kinds = {"cameras": settings.crops["cameras"]}
    wide = settings.model_copy(update={"validation_photos": 0, "crops": kinds})
    with pytest.raises(ImageError, match=r"tiny\.png is 40×40 px, crops of 64×64 are needed"):
        api.train(wide, tmp_path / "small", "mine", "cpu", "fp32")


def test_batches_depend_on_seed_and_number_alone(settings: TrainingSettings, photos: Path) -> None:
    def batches(seed: int) -> TrainingBatches:
        files, kinds = sorted(photos.iterdir()), list(settings.crops.values())
        return TrainingBatches(Photographs(files), 2, 64, 4, kinds, seed)

    one, same, other = batches(1)[7], batches(1)[7], batches(2)[7]
    assert torch.equal(one["hr"], same["hr"])
    assert torch.equal(one["lr"], same["lr"])
    assert not torch.equal(one["hr"], other["hr"])
    assert one["hr"].shape == (2, 3, 64, 64)
    assert one["lr"].shape == (2, 3, 16, 16)


def test_a_pair_shows_the_same_scene(settings: TrainingSettings, photos: Path) -> None:
    kinds = list(settings.crops.values())
    batch = TrainingBatches(Photographs(sorted(photos.iterdir())), 8, 64, 4, kinds, 0)[0]
    shrunk = torch.nn.functional.avg_pool2d(batch["hr"], 4)
    errors = (shrunk - batch["lr"]).pow(2).mean((1, 2, 3))
    assert (-10 * (errors + 1e-9).log10() > 18).all()


def _fine_detail(images: torch.Tensor) -> float:
    return float(images.diff(dim=-1).abs().mean())


def test_crops_and_validation_are_as_soft_as_their_kind(
    settings: TrainingSettings, photos: Path, tmp_path: Path
) -> None:
    files = sorted(photos.iterdir())
    trained, validated = list[float](), list[float]()
    for softness in (0.0, 3.0):
        soft = settings.crops["cameras"].model_copy(update={"softness_px": (softness, softness)})
        batch = TrainingBatches(Photographs(files), 8, 64, 4, [soft], 0)[0]
        trained.append(_fine_detail(batch["hr"]))
        # Of all kinds validation takes the first.
        kinds = {"cameras": soft, "plain": settings.crops["plain"]}
        changed = settings.model_copy(update={"crops": kinds})
        trainer = Trainer(changed, files, tmp_path, accelerator("cpu", "fp32"))
        validated.append(_fine_detail(trainer.validation[0]["hr"]))
    for crisp, blurred in (trained, validated):
        assert 0 < blurred < 0.7 * crisp
