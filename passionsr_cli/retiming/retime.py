"""A model at another timestep, before anything is learned there."""

from __future__ import annotations

import torch

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.models.catalogue import KnownModel
from passionsr_cli.models.loading import load_entry
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.models.schedule import rates


def described_at(description: ModelDescription, timestep: int) -> ModelDescription:
    """The description of the same model at another timestep.

    Raises `ModelError` for a model without a schedule, `ConfigError` for a timestep outside it.
    """
    if description.prediction != "noise":
        raise ModelError(
            f"'{description.name}' predicts the {description.prediction}: no noise schedule leads "
            "to its result "
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

    The first term is a factor of the UNet's last convolution, of both heads where there is a dial,
    and the new embedding of the timestep differs from the old one by what a bias takes back. The
    second term has to be learned.
    """
    description = known.description
    model = load_entry(known.entry, described_at(description, timestep))
    before, after = rates(description), model.rates
    assert before is not None
    assert after is not None
    factor = (before[1] * after[0]) / (before[0] * after[1])
    steps = torch.tensor([description.timestep, timestep])
    for unet in model.unets.values():
        for parameter in unet.conv_out.parameters():
            parameter.mul_(factor)
        linear = unet.time_embedding.linear_1
        old, new = linear(unet.time_proj(steps))
        linear.bias.add_(old - new)
    return model
