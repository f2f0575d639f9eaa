from __future__ import annotations

from pathlib import Path

import pytest
import torch

from passionsr_cli import api
from passionsr_cli.calibration.perceptual import FEATURES, EncoderFeatures, perceptual_distance
from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.unfinished import unfinished
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.models.one_step import OneStepModel


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nobody ever fetched a metric's weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


def test_features_are_those_of_the_full_precision_encoder(tiny_model: OneStepModel) -> None:
    distance = EncoderFeatures(tiny_model)
    image, other = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    far = distance(other, image)
    assert float(distance(image, image)) == 0
    assert float(far) > 0
    # What becomes of the model afterwards is nothing to it.
    for parameter in tiny_model.parameters():
        parameter.data.zero_()
    assert torch.equal(distance(other, image), far)
    # The first of the features, by hand: the convolution of the shuffled image.
    conv = distance._model.vae.encoder.conv_in
    made = [conv(torch.nn.functional.pixel_unshuffle(x * 2 - 1, 2)) for x in (other, image)]
    found = distance._features(other)[0]
    torch.testing.assert_close(found, made[0])


def test_gradients_reach_the_image_alone(tiny_model: OneStepModel) -> None:
    distance = EncoderFeatures(tiny_model)
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    distance(image, torch.rand(1, 3, 32, 32)).backward()
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 0
    assert not any(p.requires_grad for p in distance._model.parameters())


def test_without_weights_a_substitute_is_named_or_refused(tiny_model: OneStepModel) -> None:
    assert perceptual_distance(tiny_model, torch.device("cpu"), strict=False)[0] == FEATURES
    with pytest.raises(ConfigError, match=r"strict: the loss needs LPIPS, and .*alex.* is not on"):
        perceptual_distance(tiny_model, torch.device("cpu"), strict=True)


def test_a_manifest_says_what_was_used(tiny_folder: Path) -> None:
    own = {"module": None, "end_to_end": {"steps": 1, "learning_rate": 0.1}, "ranks": {}}
    settings = CalibrationSettings.model_validate(
        {
            "model": str(tiny_folder),
            "method": "qartsr",
            "method_settings": {"qartsr": {**own, "perceptual_weight": 0.1, "merged_ranks": {}}},
            "crops": 2,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
        }
    )
    entry = api.calibrate(settings, "used")
    assert entry.manifest.method.perceptual_loss == FEATURES
    assert find_checkpoint("used").manifest.method.perceptual_loss == FEATURES


def test_a_refusal_leaves_nothing_to_resume(tiny_folder: Path) -> None:
    own = {"ranks": {}, "merged_ranks": {}}
    settings = CalibrationSettings.model_validate(
        {
            "model": str(tiny_folder),
            "method": "qartsr",
            "method_settings": {"qartsr": own},
            "crops": 2,
            "crop_px": 32,
            "device": "cpu",
            "precision": "fp32",
            "strict": True,
        }
    )
    with pytest.raises(ConfigError, match="strict"):
        api.calibrate(settings, "w4a4")
    assert unfinished() == []
