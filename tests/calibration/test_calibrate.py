"""What a calibration was begun with is what it goes on with."""

from __future__ import annotations

import json
import shutil
from os.path import relpath
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reporting import Kill, KillAt

from passionsr_cli import api
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.checkpoints.unfinished import (
    ORIGIN_FILE,
    SETTINGS_FILE,
    run_folder,
    saved_settings,
)
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError, PassionSRError, StoreError
from passionsr_cli.models.loading import load, save
from passionsr_cli.store import checksum

LSQ = {"lsq": {"fit": {"steps": 1}}}


@pytest.fixture
def settings(least_folder: Path, tmp_path: Path) -> CalibrationSettings:
    """A calibration of a model and on images that a test may change."""
    shutil.copytree(least_folder, tmp_path / "model")
    (tmp_path / "images").mkdir()
    _draw(tmp_path / "images", 0)
    return CalibrationSettings(
        model=str(tmp_path / "model"),
        images=tmp_path / "images",
        method="maxmin",
        crops=2,
        crop_px=32,
        device="cpu",
        precision="fp32",
    )


def _draw(folder: Path, seed: int) -> None:
    """The same names with other pixels for every seed."""
    for number in range(2):
        pixels = np.random.default_rng((seed, number)).integers(0, 255, (48, 48, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")


def _change_weights(folder: Path) -> None:
    model = load(str(folder))
    torch.nn.init.normal_(model.context)
    shutil.rmtree(folder)
    save(folder, model, {})


def _begin(settings: CalibrationSettings) -> None:
    with pytest.raises(Kill):
        api.calibrate(settings, "mine", KillAt("full precision", 1))


def test_narrow_bits_begin_as_the_command_begins_them(settings: CalibrationSettings) -> None:
    said = settings.model_dump(exclude_unset=True) | {"unet": "w4a4", "method": "passionsr"}
    _begin(CalibrationSettings.model_validate(said))
    whole = settings_for(None, [said], {})
    assert saved_settings("mine").method_settings == whole.method_settings != {}


def test_other_weights_cannot_take_up_a_run(settings: CalibrationSettings) -> None:
    _begin(settings)
    _change_weights(Path(settings.model))
    with pytest.raises(ConfigError, match=r"'mine' was begun with other weights of .*put those"):
        api.calibrate(settings, "mine")


def test_other_images_cannot_take_up_a_run(settings: CalibrationSettings) -> None:
    assert settings.images is not None
    _begin(settings)
    _draw(settings.images, 1)
    with pytest.raises(ConfigError, match=r"'mine' was begun with other images of .*put those"):
        api.calibrate(settings, "mine")
    _draw(settings.images, 0)
    assert api.calibrate(settings, "mine").name == "mine"


def test_a_run_goes_on_and_is_found_from_another_folder(
    settings: CalibrationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, folder = Path(str(settings.images)), Path(settings.model)
    typed = {"model": relpath(folder, tmp_path), "images": Path(relpath(images, tmp_path))}
    monkeypatch.chdir(tmp_path)
    _begin(settings.model_copy(update=typed))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(PassionSRError):
        api.calibrate(settings.model_copy(update=typed), "mine")
    made = api.calibrate(saved_settings("mine"), "mine")
    monkeypatch.chdir(tmp_path)
    assert api.calibrate(settings.model_copy(update=typed), "mine").manifest == made.manifest


def test_a_run_that_did_not_note_its_origin_goes_on(settings: CalibrationSettings) -> None:
    """As older versions left it."""
    _begin(settings)
    (run_folder("mine") / ORIGIN_FILE).unlink()
    assert api.calibrate(settings, "mine").name == "mine"


def test_a_checkpoint_of_other_images_is_another(settings: CalibrationSettings) -> None:
    assert settings.images is not None
    made = api.calibrate(settings, "mine")
    assert api.calibrate(settings, "mine").manifest == made.manifest
    _draw(settings.images, 1)
    with pytest.raises(StoreError, match="'mine' exists already"):
        api.calibrate(settings, "mine")
    # Without its images it is as finished as it was.
    shutil.rmtree(settings.images)
    assert api.calibrate(settings, "mine").manifest == made.manifest


def test_a_checkpoint_that_is_older_than_a_setting_is_finished(
    settings: CalibrationSettings,
) -> None:
    """What it does not say is as by default."""
    made = api.calibrate(settings.model_copy(update={"method": "lsq", "method_settings": LSQ}), "a")
    path = made.folder / "manifest.json"
    stored = json.loads(path.read_text())
    del stored["settings"]["strict"], stored["settings"]["weight_grids"]
    del stored["method"]["settings"]["distributed"], stored["method"]["settings"]["fit"]["decay"]
    path.write_text(json.dumps({**stored, "checksum": checksum(stored)}))
    again = settings.model_copy(update={"method": "lsq", "method_settings": LSQ})
    assert api.calibrate(again, "a").entry.tensors_file == made.entry.tensors_file
    with pytest.raises(StoreError, match="'a' exists already"):
        api.calibrate(again.model_copy(update={"strict": True}), "a")


def test_what_is_left_of_a_finished_run_is_not_taken_up(settings: CalibrationSettings) -> None:
    _begin(settings)
    # As if it had been killed while the folder of its finished run was removed.
    (run_folder("mine") / SETTINGS_FILE).unlink()
    _draw(Path(str(settings.images)), 1)
    mine, fresh = (api.calibrate(settings, name).manifest for name in ("mine", "fresh"))
    assert mine.image_psnr == fresh.image_psnr
