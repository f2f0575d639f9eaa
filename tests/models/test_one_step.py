from __future__ import annotations

import torch
import torch.nn.functional as F

from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.registry import ModelDescription


def test_forward_is_the_formula_written_out(tiny_model: OneStepModel) -> None:
    description = tiny_model.description
    image = torch.rand(2, 3, 32, 48, generator=torch.manual_seed(1))
    patches = F.pixel_unshuffle(image * 2 - 1, description.patch_size)
    moments = tiny_model.vae.quant_conv(tiny_model.vae.encoder(patches))
    latent = moments[:, :4] * 0.5
    context = tiny_model.context.repeat(2, 1, 1)
    noise = tiny_model.unet(latent, 199, encoder_hidden_states=context).sample
    clean = (latent - tiny_model.noise_rate * noise) / tiny_model.signal_rate
    decoded = tiny_model.vae.decoder(tiny_model.vae.post_quant_conv(clean / 0.5))
    expected = (F.pixel_shuffle(decoded, 2) + 1) / 2
    torch.testing.assert_close(tiny_model(image), expected)


def test_latent_has_the_size_its_description_promises(tiny_model: OneStepModel) -> None:
    assert tiny_model.description.latent_factor == 4
    assert tiny_model.encode(torch.rand(1, 3, 32, 48)).shape == (1, 4, 8, 12)


def test_timestep_and_scaling_come_from_the_description(
    tiny_model: OneStepModel, tiny_description: ModelDescription
) -> None:
    other = OneStepModel(tiny_description.model_copy(update={"timestep": 900}))
    other.load_state_dict(tiny_model.state_dict())
    image = torch.rand(1, 3, 32, 32)
    assert other.noise_rate > tiny_model.noise_rate
    assert not torch.allclose(other.eval()(image), tiny_model(image))
