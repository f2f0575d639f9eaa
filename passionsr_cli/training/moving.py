"""A model at another timestep, before anything is learned there."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.models.schedule import rates
from passionsr_cli.models.sources import KnownModel, entry_of, load_entry
from passionsr_cli.registry import ModelDescription

# Of the features' mean energy: what else is rounding errors blown up by weights that cancel.
RIDGE = 1e-4


def described_at(description: ModelDescription, timestep: int) -> ModelDescription:
    """The description of the same model at another timestep.

    Raises `ModelError` for a model without a schedule, `ConfigError` for a timestep outside it.
    """
    if description.prediction == "residual":
        raise ModelError(
            f"'{description.name}' predicts the residual: no noise schedule leads to its result "
            "and no timestep is better than another; choose a model that predicts noise"
        )
    last = description.schedule.num_train_timesteps - 1
    if not 0 <= timestep <= last:
        raise ConfigError(
            f"timestep {timestep} is outside the schedule of '{description.name}'; "
            f"choose 0 to {last}"
        )
    return description.model_copy(update={"timestep": timestep})


@torch.no_grad()
def moved(known: KnownModel, timestep: int) -> OneStepModel:
    """A model at another timestep, as near to what it did as factors and biases can bring it.

    With z_H = (z_L − σ ε)/α at both timesteps, the new ε' must be

        ε' = (σ α')/(α σ')·ε + (1 − α'/α)/σ'·z_L

    The first term is a factor of the UNet's last convolution, and the new embedding of the
    timestep differs from the old one by what a bias takes back. The second term is left.
    """
    description = known.description
    model = load_entry(entry_of(known), described_at(description, timestep))
    alpha, sigma = rates(description)
    factor = (sigma * model.signal_rate) / (alpha * model.noise_rate)
    for parameter in model.unet.conv_out.parameters():
        parameter.mul_(factor)
    linear = model.unet.time_embedding.linear_1
    steps = torch.tensor([description.timestep, timestep])
    old, new = linear(model.unet.time_proj(steps))
    linear.bias.add_(old - new)
    return model


@torch.no_grad()
def solve_last_layer(model: OneStepModel, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Change the UNet's last convolution so that z_L of each pair becomes its z_H, as nearly as
    that layer alone can: the ridge regression of what ε lacks on what reaches the layer.
    """
    layer = model.unet.conv_out
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    products, wanted = torch.zeros(()), torch.zeros(())
    try:
        for low, high in pairs:
            noise = (low - model.signal_rate * high) / model.noise_rate
            lacking = (noise - model.predict(low)).double().movedim(1, -1).flatten(0, 2)
            patches = F.unfold(seen.pop(), layer.kernel_size, padding=layer.padding)
            features = F.pad(patches.double().transpose(1, 2).flatten(0, 1), (0, 1), value=1.0)
            products = products + features.T @ features
            wanted = wanted + features.T @ lacking
    finally:
        hook.remove()
    products.diagonal().add_(RIDGE * products.diagonal().mean())
    change = torch.linalg.solve(products, wanted).T.to(layer.weight.dtype)
    layer.weight.add_(change[:, :-1].reshape(layer.weight.shape))
    layer.bias.add_(change[:, -1])
