from __future__ import annotations

import pytest
import torch

from passionsr_cli.data.resampling import bicubic
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError
from passionsr_cli.imaging import samples
from passionsr_cli.layering import settings_from
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.training.initialisation import (
    rotate_between_linear_layers,
    start_as_interpolator,
)
from passionsr_cli.training.settings import TrainingSettings


def test_an_untrained_model_returns_its_input() -> None:
    torch.manual_seed(0)
    model = OneStepModel(settings_from("train-mini", TrainingSettings).model)
    start_as_interpolator(model)
    lr = torch.from_numpy(samples.low_resolution("sample:rocket"))[None, :, :32, :32]
    upscaled = bicubic(lr, (128, 128)).clamp(0, 1)
    with torch.no_grad():
        error = (model(upscaled) - upscaled).pow(2).mean()
    assert -10 * error.log10() > 35


def test_a_vae_it_cannot_start_is_refused(tiny_description: ModelDescription) -> None:
    with pytest.raises(ConfigError, match="one level and norm_num_groups 1"):
        start_as_interpolator(OneStepModel(tiny_description))


@torch.no_grad()
def test_a_rotation_between_linear_layers_changes_nothing(
    tiny_model: OneStepModel,
) -> None:
    upscaled = torch.rand(1, 3, 32, 32)
    expected = tiny_model(upscaled)
    torch.nn.init.eye_(tiny_model.vae.post_quant_conv.weight[:, :, 0, 0])
    identity = tiny_model(upscaled)
    assert not torch.allclose(identity, expected, atol=1e-3)
    rotate_between_linear_layers(tiny_model.vae)
    torch.testing.assert_close(tiny_model(upscaled), identity, rtol=1e-4, atol=1e-5)
    # An identity's rows have entries of like size now.
    weight = tiny_model.vae.post_quant_conv.weight[:, :, 0, 0]
    torch.testing.assert_close(weight.abs(), torch.full((4, 4), 0.5))
