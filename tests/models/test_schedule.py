from __future__ import annotations

import numpy as np
import pytest
import torch

from passionsr_cli.description import ModelDescription, Schedule
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.models.schedule import mix_heads, noise_between, predict_x0, signal_and_noise


def _stable_diffusion_rates(timestep: int) -> tuple[float, float]:
    """Scaled-linear schedule of Stable Diffusion, written out in float64."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = np.cumprod(1 - betas)[timestep]
    return float(alpha_bar**0.5), float((1 - alpha_bar) ** 0.5)


@pytest.mark.parametrize("timestep", [1, 249, 499, 999])
def test_rates_are_those_of_stable_diffusion(timestep: int) -> None:
    expected = _stable_diffusion_rates(timestep)
    assert signal_and_noise(Schedule(), timestep) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["scaled_linear", "linear"])
def test_rates_are_those_of_diffusers_to_the_last_bit(kind: str) -> None:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    schedule = Schedule.model_validate({"beta_schedule": kind})
    wanted = DDPMScheduler(**schedule.model_dump()).alphas_cumprod.double()
    for timestep in (0, 1, 2, 199, 499, 500, 501, 998, 999):
        bar = wanted[timestep]
        expected = (float(bar.sqrt()), float((1 - bar).sqrt()))
        assert signal_and_noise(schedule, timestep) == expected


@pytest.mark.parametrize(("timestep", "gain"), [(1, 0.041), (499, 1.61), (999, 14.6)])
def test_error_gain_is_that_of_the_paper(timestep: int, gain: float) -> None:
    alpha, sigma = signal_and_noise(Schedule(), timestep)
    assert sigma / alpha == pytest.approx(gain, rel=0.02)


def test_x0_inverts_the_forward_process() -> None:
    alpha, sigma = signal_and_noise(Schedule(), 999)
    clean, noise = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64, generator=torch.manual_seed(0))
    noisy = alpha * clean + sigma * noise
    found = predict_x0(noisy.float(), noise.float(), (alpha, sigma))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), clean, atol=1e-4, rtol=0)


def test_noise_is_what_x0_was_found_without() -> None:
    alpha, sigma = signal_and_noise(Schedule(), 249)
    latent, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.manual_seed(0))
    restored = predict_x0(latent, noise, (alpha, sigma))
    torch.testing.assert_close(noise_between(latent, restored, (alpha, sigma)), noise)


@pytest.mark.parametrize("realism", [None, 0.0, 0.3, 1.0])
def test_a_dial_mixes_two_heads_by_its_formula(
    dial_description: ModelDescription, realism: float | None
) -> None:
    heads = torch.randn(2, 8, 3, 5, generator=torch.manual_seed(0))
    found = mix_heads(heads, dial_description, realism)
    r = 0.25 if realism is None else realism
    exact = heads.numpy().astype(np.float64)
    expected = (1 - r) * exact[:, :4] + r * exact[:, 4:]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)
    if r in (0, 1):
        assert torch.equal(found, heads[:, :4] if r == 0 else heads[:, 4:])


def test_without_a_dial_the_head_is_the_noise(tiny_description: ModelDescription) -> None:
    heads = torch.randn(1, 4, 3, 5)
    assert mix_heads(heads, tiny_description) is heads


def test_arrays_and_tensors_are_computed_alike() -> None:
    latent, noise = np.random.default_rng(0).random((2, 4, 8, 8), np.float32)
    found = predict_x0(latent, noise, (0.0683, 0.9977))
    assert found.dtype == np.float32
    wanted = predict_x0(torch.from_numpy(latent), torch.from_numpy(noise), (0.0683, 0.9977))
    assert np.array_equal(found, wanted.numpy())


@torch.no_grad()
def test_x0_is_float32_under_autocast(tiny_model: OneStepModel) -> None:
    latent = torch.full((1, 4, 2, 2), 1.001)
    with torch.autocast("cpu", torch.bfloat16):
        found = tiny_model.to_x0(latent, torch.zeros_like(latent).bfloat16())
    assert found.dtype == torch.float32
    assert torch.equal(found, latent / tiny_model.rates[0])
