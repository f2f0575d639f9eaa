"""The only way from predicted noise to a clean latent, and back; and what noise a dial mixes."""

from __future__ import annotations

import torch
from torch import Tensor

from passionsr_cli.registry import ModelDescription, Schedule


def signal_and_noise(schedule: Schedule, timestep: int) -> tuple[float, float]:
    """α_t = √ᾱ_t and σ_t = √(1 − ᾱ_t) of the schedule at one timestep (diffusers' DDPM)."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    # Numbers, also while the model itself is built on the meta device.
    with torch.device("cpu"):
        alpha_bar = DDPMScheduler(**schedule.model_dump()).alphas_cumprod[timestep].double()
    return float(alpha_bar.sqrt()), float((1 - alpha_bar).sqrt())


def rates(description: ModelDescription) -> tuple[float, float]:
    """The (signal, noise) rates of a model for `predict_x0`.

    A model that predicts the residual subtracts its prediction as it is (PiSA-SR, arXiv
    2412.03017).
    """
    if description.prediction == "residual":
        return 1.0, 1.0
    return signal_and_noise(description.schedule, description.timestep)


def mix_heads(heads: Tensor, description: ModelDescription, realism: float | None = None) -> Tensor:
    """Mix a UNet's two heads: ε = (1 − r)·ε_faithful + r·ε_natural, in float32.

    `heads` (B, 2·C, H, W) holds ε_faithful in its first C channels and ε_natural in the others;
    `realism` r is in [0, 1], None the model's default. The heads (B, C, H, W) of a model without
    a dial are its ε. z_H is linear in ε, so this mixes the two restored latents, not weights or
    images.
    """
    if description.realism is None:
        assert realism is None, f"'{description.name}' has no dial"
        return heads
    r = description.realism if realism is None else realism
    faithful, natural = heads.float().chunk(2, dim=1)
    return (1 - r) * faithful + r * natural


def predict_x0(latent: Tensor, noise: Tensor, signal_rate: float, noise_rate: float) -> Tensor:
    """The clean latent z_H = (z_L − σ_t·ε) / α_t, in float32 (OSEDiff, arXiv 2406.08177).

    An error of ε reaches the result multiplied by σ_t/α_t, 14.6 at t = 999 of Stable
    Diffusion's schedule: half precision is not enough here.
    """
    return (latent.float() - noise_rate * noise.float()) / signal_rate


def noise_between(
    latent: Tensor, restored: Tensor, signal_rate: float, noise_rate: float
) -> Tensor:
    """The noise ε = (z_L − α_t·z_H) / σ_t, in float32: `predict_x0` solved for it."""
    return (latent.float() - signal_rate * restored.float()) / noise_rate
