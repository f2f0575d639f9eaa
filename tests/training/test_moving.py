from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.models import sources
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.training.moving import described_at, moved, solve_last_layer


def _rates(timestep: int) -> tuple[float, float]:
    """α and σ of Stable Diffusion's schedule, straight from its definition."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = np.cumprod(1 - betas)[timestep]
    return signal**0.5, (1 - signal) ** 0.5


@torch.no_grad()
@pytest.mark.parametrize("timestep", [1, 199, 999])
def test_a_moved_model_predicts_what_it_did_times_a_factor(
    tiny_folder: Path, timestep: int
) -> None:
    (alpha, sigma), (new_alpha, new_sigma) = _rates(199), _rates(timestep)
    known = sources.find(str(tiny_folder))
    model, student = sources.load(str(tiny_folder)), moved(known, timestep)
    assert student.description.timestep == timestep
    latent = torch.randn(2, 4, 8, 8)
    expected = model.predict(latent) * sigma * new_alpha / (alpha * new_sigma)
    torch.testing.assert_close(student.predict(latent), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_last_layer_is_solved_for(tiny_folder: Path) -> None:
    """Noise of another last layer on the same features is met to the ridge, bias included."""
    wanted = sources.load(str(tiny_folder))
    layer = wanted.unet.conv_out
    layer.weight.add_(torch.randn_like(layer.weight))
    layer.bias.add_(1)
    student = sources.load(str(tiny_folder))
    lows = torch.randn(12, 2, 4, 8, 8)
    pairs = [(low, wanted.to_x0(low, wanted.predict(low))) for low in lows]
    before = (student.predict(lows[0]) - wanted.predict(lows[0])).square().mean()
    solve_last_layer(student, pairs)
    after = (student.predict(lows[0]) - wanted.predict(lows[0])).square().mean()
    assert after < 1e-3 * before


def test_a_model_at_its_own_timestep_needs_no_solving(tiny_folder: Path) -> None:
    model, student = (sources.load(str(tiny_folder)) for _ in range(2))
    with torch.no_grad():
        low = torch.randn(2, 4, 8, 8)
        solve_last_layer(student, [(low, model.to_x0(low, model.predict(low)))])
    torch.testing.assert_close(student.unet.conv_out.weight, model.unet.conv_out.weight)


def test_timesteps_that_cannot_be(tiny_model: OneStepModel) -> None:
    description = tiny_model.description
    with pytest.raises(ConfigError, match="timestep 1000 is outside the schedule of 'tiny'"):
        described_at(description, 1000)
    residual = description.model_copy(update={"prediction": "residual"})
    with pytest.raises(ModelError, match="'tiny' predicts the residual: no noise schedule"):
        described_at(residual, 49)
