"""The only way from predicted noise to a clean latent, and back; and what noise a dial mixes.

Imports no torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from passionsr_cli.description import ModelDescription, Schedule
from passionsr_cli.pixels.arrays import Array, fused_add

if TYPE_CHECKING:
    from torch import Tensor

Latent = TypeVar("Latent", "Tensor", Array)
Rates = tuple[float, float]


def signal_and_noise(schedule: Schedule, timestep: int) -> tuple[float, float]:
    """α_t = √ᾱ_t and σ_t = √(1 − ᾱ_t) of the schedule at one timestep.

    To the last bit those of diffusers' `DDPMScheduler`, which computes ᾱ in float32.
    """
    first, last = schedule.beta_start, schedule.beta_end
    if schedule.beta_schedule == "scaled_linear":
        betas = np.square(_evenly_spaced(first**0.5, last**0.5, schedule.num_train_timesteps))
    else:
        betas = _evenly_spaced(first, last, schedule.num_train_timesteps)
    alphas = (np.float32(1) - betas)[: timestep + 1]
    alpha_bar = float(np.float32(np.prod(alphas, dtype=np.float64)))
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def _evenly_spaced(first: float, last: float, count: int) -> Array:
    """`count` values from `first` to `last`, as torch's `linspace` finds them in float32."""
    start, stop = np.float32(first), np.float32(last)
    step = (stop - start) / np.float32(max(1, count - 1))
    index = np.arange(count).astype(np.float32)
    rising = fused_add(float(start), index, float(step))
    falling = fused_add(float(stop), index[::-1], -float(step))
    return np.where(index < count // 2, rising, falling)


def rates(description: ModelDescription) -> Rates | None:
    """The (signal, noise) rates of a model for `predict_x0`.

    A model that predicts the residual subtracts its prediction as it is (PiSA-SR, arXiv
    2412.03017). None for one that predicts z_H itself.
    """
    if description.prediction == "sample":
        return None
    if description.prediction == "residual":
        return 1.0, 1.0
    return signal_and_noise(description.schedule, description.timestep)


def mix_heads(heads: Latent, description: ModelDescription, realism: float | None = None) -> Latent:
    """Mix a UNet's two float32 heads: ε = (λ − r)·ε_faithful + r·ε_natural.

    `heads` (B, 2·C, H, W) holds ε_faithful in its first C channels and ε_natural in the others;
    `realism` r is in [0, 1], None the model's default; λ is its `pixel_strength`, 1 but for
    PiSA-SR's λ_pix·P + λ_sem·(S − P), of which r is λ_sem (arXiv 2412.03017). The heads
    (B, C, H, W) of a model without a dial are its ε. z_H is linear in ε, so this mixes the two
    restored latents, not weights or images.
    """
    if description.realism is None:
        assert realism is None, f"'{description.name}' has no dial"
        return heads
    r = description.realism if realism is None else realism
    half = heads.shape[1] // 2
    faithful, natural = heads[:, :half], heads[:, half:]
    return (description.pixel_strength - r) * faithful + r * natural


def predict_x0(latent: Latent, noise: Latent, rates: Rates | None) -> Latent:
    """The clean latent z_H = (z_L − σ_t·ε) / α_t of float32 latents (OSEDiff, arXiv 2406.08177).

    Without rates what was predicted is z_H itself.

    An error of ε reaches the result multiplied by σ_t/α_t, 14.6 at t = 999 of Stable
    Diffusion's schedule: half precision is not enough here.
    """
    if rates is None:
        return noise
    signal_rate, noise_rate = rates
    # Arrays stay float32, whatever their types say.
    return (latent - noise_rate * noise) / signal_rate  # type: ignore[return-value]


def noise_between(latent: Latent, restored: Latent, rates: Rates | None) -> Latent:
    """The noise ε = (z_L − α_t·z_H) / σ_t of float32 latents: `predict_x0` solved for it."""
    if rates is None:
        return restored
    signal_rate, noise_rate = rates
    return (latent - signal_rate * restored) / noise_rate  # type: ignore[return-value]
