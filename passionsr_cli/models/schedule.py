"""The only way from predicted noise to a clean latent."""

from __future__ import annotations

import torch
from torch import Tensor

from passionsr_cli.registry import Schedule


def signal_and_noise(schedule: Schedule, timestep: int) -> tuple[float, float]:
    """α_t = √ᾱ_t and σ_t = √(1 − ᾱ_t) of the schedule at one timestep (diffusers' DDPM)."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    # Numbers, also while the model itself is built on the meta device.
    with torch.device("cpu"):
        alpha_bar = DDPMScheduler(**schedule.model_dump()).alphas_cumprod[timestep].double()
    return float(alpha_bar.sqrt()), float((1 - alpha_bar).sqrt())


def predict_x0(latent: Tensor, noise: Tensor, signal_rate: float, noise_rate: float) -> Tensor:
    """The clean latent z_H = (z_L − σ_t·ε) / α_t, in float32 (OSEDiff, arXiv 2406.08177).

    An error of ε reaches the result multiplied by σ_t/α_t, 14.6 at t = 999 of Stable
    Diffusion's schedule: half precision is not enough here.
    """
    return (latent.float() - noise_rate * noise.float()) / signal_rate
