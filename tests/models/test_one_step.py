from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ModelError
from passionsr_cli.models.one_step import OneStepModel


def test_forward_is_the_formula_written_out(tiny_model: OneStepModel) -> None:
    description = tiny_model.description
    image = torch.rand(2, 3, 32, 48, generator=torch.manual_seed(1))
    patches = F.pixel_unshuffle(image * 2 - 1, description.patch_size)
    moments = tiny_model.vae.quant_conv(tiny_model.vae.encoder(patches))
    latent = moments[:, :4] * 0.5
    context = tiny_model.context.repeat(2, 1, 1)
    noise = tiny_model.unet(latent, 199, encoder_hidden_states=context).sample
    clean = (latent - tiny_model.rates[1] * noise) / tiny_model.rates[0]
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
    assert other.rates[1] > tiny_model.rates[1]
    assert not torch.allclose(other.eval()(image), tiny_model(image))


@pytest.mark.parametrize("realism", [0.0, 0.7, 1.0])
def test_the_dial_mixes_the_restored_latents_of_two_heads(
    dial_model: OneStepModel, realism: float
) -> None:
    latent = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(1))
    context = dial_model.context.repeat(2, 1, 1)
    output = dial_model.unet(latent, 199, encoder_hidden_states=context).sample
    assert output.shape == (2, 8, 8, 8)
    faithful, natural = (dial_model.to_x0(latent, head) for head in (output[:, :4], output[:, 4:]))
    assert not torch.allclose(faithful, natural, atol=1e-2)
    found = dial_model.to_x0(latent, dial_model.predict(latent, realism))
    expected = (1 - realism) * faithful + realism * natural
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dial_model.predict(latent), dial_model.predict(latent, 0.25))


def test_what_is_left_out_passes_its_input_on(dial_model: OneStepModel) -> None:
    assert not [name for name in dial_model.state_dict() if name.startswith("vae.encoder.mid")]
    image = torch.rand(1, 3, 32, 32)
    encoder = dial_model.vae.encoder
    x = encoder.conv_in(F.pixel_unshuffle(image, 2) * 2 - 1)
    for block in encoder.down_blocks:
        x = block(x)
    moments = dial_model.vae.quant_conv(encoder.conv_out(F.silu(encoder.conv_norm_out(x))))
    torch.testing.assert_close(dial_model.encode(image), moments[:, :4] * 0.5)


def test_what_does_not_exist_cannot_be_left_out(tiny_description: ModelDescription) -> None:
    wrong = tiny_description.model_copy(update={"left_out": ("vae.encoder.middle",)})
    with pytest.raises(
        ModelError, match=r"'tiny' leaves out 'vae\.encoder\.middle', but it has no"
    ):
        OneStepModel(wrong)
