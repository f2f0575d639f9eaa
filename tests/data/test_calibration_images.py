from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data import calibration_images
from passionsr_cli.data.calibration_images import fingerprint_of, gather
from passionsr_cli.data.resampling import bicubic
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, ImageError


def _folder(path: Path, sizes: list[tuple[int, int]]) -> Path:
    path.mkdir()
    for number, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{number}.png")
    return path


def test_by_default_they_are_the_sample_photographs(tiny_description: ModelDescription) -> None:
    settings = CalibrationSettings(crops=10, crop_px=64)
    images = gather(settings, tiny_description)
    assert images.lr.shape == (10, 3, 16, 16)
    assert images.lr.dtype == torch.uint8
    assert images.hr is not None
    assert images.hr.shape == (10, 3, 64, 64)
    # LR crops show what their HR partners show.
    small = bicubic(images.hr.float(), (16, 16))
    assert (small - images.lr.float()).abs().mean() < 12
    again = gather(settings, tiny_description)
    assert torch.equal(images.lr, again.lr)
    other = gather(settings.model_copy(update={"seed": 1}), tiny_description)
    assert images.fingerprint() == again.fingerprint() != other.fingerprint()


def test_model_inputs_are_bicubic(tiny_description: ModelDescription) -> None:
    images = gather(CalibrationSettings(crops=2, crop_px=64), tiny_description)
    expected = bicubic(images.lr[1:2].float() / 255, (64, 64)).clamp(0, 1)
    assert torch.equal(images.upscaled([1]), expected)


def test_large_images_are_degraded_and_small_ones_taken_as_they_are(
    tiny_description: ModelDescription, tmp_path: Path
) -> None:
    settings = CalibrationSettings(crops=3, crop_px=64)
    large = _folder(tmp_path / "large", [(80, 64), (64, 100)])
    images = gather(settings.model_copy(update={"images": large}), tiny_description)
    assert images.hr is not None
    small = _folder(tmp_path / "small", [(16, 16), (40, 30)])
    images = gather(settings.model_copy(update={"images": small}), tiny_description)
    assert images.hr is None
    first = torch.from_numpy(np.array(Image.open(small / "0.png"))).permute(2, 0, 1)
    assert torch.equal(images.lr[0], first)
    assert torch.equal(images.lr[2], first)


@pytest.mark.parametrize("kind", ["auto", "lr", "hr"])
def test_images_smaller_than_a_crop_are_named(
    tiny_description: ModelDescription, tmp_path: Path, kind: str
) -> None:
    folder = _folder(tmp_path / "mixed", [(64, 64), (15, 64)])
    settings = CalibrationSettings(crops=3, crop_px=64, images=folder, image_kind=kind)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"1\.png is 15×64 px, .*crops of"):
        gather(settings, tiny_description)


def test_folders_without_images_are_refused(
    tiny_description: ModelDescription, tmp_path: Path
) -> None:
    settings = CalibrationSettings(images=tmp_path / "none")
    with pytest.raises(ImageError, match="no such folder; --images"):
        gather(settings, tiny_description)
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="no images in this folder"):
        gather(settings, tiny_description)
    (tmp_path / "none" / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png: not an image file"):
        gather(settings, tiny_description)
    with pytest.raises(ConfigError, match="crop_px must be a multiple of 8, found 60"):
        gather(CalibrationSettings(crop_px=60), tiny_description)


def test_the_fingerprint_of_the_same_files_is_made_once(
    tiny_description: ModelDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _folder(tmp_path / "images", [(16, 16)])
    settings = CalibrationSettings(crops=1, crop_px=64, images=folder)
    first = fingerprint_of(settings, tiny_description)
    assert first == gather(settings, tiny_description).fingerprint()
    with monkeypatch.context() as patch:
        patch.delattr(calibration_images, "gather")
        same = settings.model_copy(update={"device": "cpu", "method": "maxmin"})
        assert fingerprint_of(same, tiny_description) == first
    Image.new("RGB", (20, 20)).save(folder / "0.png")
    assert fingerprint_of(settings, tiny_description) != first
