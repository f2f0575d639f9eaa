from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.models import catalogue, loading
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.retiming.retime import described_at, moved


def _rates(timestep: int) -> tuple[float, float]:
    """α and σ of Stable Diffusion's schedule, straight from its definition."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = np.cumprod(1 - betas)[timestep]
    return signal**0.5, (1 - signal) ** 0.5


@torch.no_grad()
@pytest.mark.parametrize("timestep", [1, 199, 999])
def test_a_moved_model_predicts_what_it_did_times_a_factor(
    least_folder: Path, timestep: int
) -> None:
    (alpha, sigma), (new_alpha, new_sigma) = _rates(199), _rates(timestep)
    known = catalogue.find(str(least_folder))
    model, student = loading.load(str(least_folder)), moved(known, timestep)
    assert student.description.timestep == timestep
    latent = torch.randn(2, 4, 8, 8)
    expected = model.predict(latent) * sigma * new_alpha / (alpha * new_sigma)
    torch.testing.assert_close(student.predict(latent), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_both_heads_of_a_dial_are_moved_alike(dial_folder: Path) -> None:
    (alpha, sigma), (new_alpha, new_sigma) = _rates(199), _rates(49)
    factor = sigma * new_alpha / (alpha * new_sigma)
    model, student = loading.load(str(dial_folder)), moved(catalogue.find(str(dial_folder)), 49)
    latent = torch.randn(2, 4, 8, 8)
    for realism in (0, 0.25, 1):
        found, before = (each.predict(latent, realism) for each in (student, model))
        torch.testing.assert_close(found, before * factor, rtol=1e-3, atol=1e-4)


def test_timesteps_that_cannot_be(tiny_model: OneStepModel) -> None:
    description = tiny_model.description
    with pytest.raises(ConfigError, match="timestep 1000 is outside the schedule of 'tiny'"):
        described_at(description, 1000)
    residual = description.model_copy(update={"prediction": "residual"})
    with pytest.raises(ModelError, match="'tiny' predicts the residual: no noise schedule"):
        described_at(residual, 49)
