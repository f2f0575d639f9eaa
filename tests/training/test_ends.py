from __future__ import annotations

import torch

from passionsr_cli.description import ModelDescription
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.training.ends import (
    Ends,
    natural_starts_as_faithful,
    silent_blocks_skipped,
)


def _two_headed(description: ModelDescription) -> OneStepModel:
    unet = {**description.unet, "out_channels": 2 * description.unet["out_channels"]}
    torch.manual_seed(0)
    return OneStepModel(description.model_copy(update={"unet": unet, "realism": 0.5}))


@torch.no_grad()
def test_both_ends_are_those_of_the_dial(tiny_description: ModelDescription) -> None:
    model = _two_headed(tiny_description)
    upscaled = torch.rand(2, 3, 32, 32)
    faithful, natural = Ends(model)(upscaled, True)
    latent = model.encode(upscaled)
    for image, realism in ((faithful, 0.0), (natural, 1.0)):
        wanted = model.decode(model.to_x0(latent, model.predict(latent, realism)))
        torch.testing.assert_close(image, wanted)
    assert not torch.allclose(faithful, natural)
    alone, nothing = Ends(model)(upscaled, False)
    torch.testing.assert_close(alone, faithful)
    assert nothing is None


@torch.no_grad()
def test_a_model_without_a_dial_has_one_end(tiny_model: OneStepModel) -> None:
    upscaled = torch.rand(1, 3, 32, 32)
    faithful, natural = Ends(tiny_model)(upscaled, True)
    torch.testing.assert_close(faithful, tiny_model(upscaled))
    assert natural is faithful


@torch.no_grad()
def test_a_natural_head_starts_once(tiny_description: ModelDescription) -> None:
    model = _two_headed(tiny_description)
    half = tiny_description.unet["out_channels"]
    model.unet.conv_out.weight[half:] = 0
    model.unet.conv_out.bias[half:] = 0
    natural_starts_as_faithful(model)
    assert torch.equal(model.unet.conv_out.weight[half:], model.unet.conv_out.weight[:half])
    model.unet.conv_out.weight[half:] = 1
    natural_starts_as_faithful(model)
    assert (model.unet.conv_out.weight[half:] == 1).all()


@torch.no_grad()
def test_silent_blocks_are_skipped_only_where_nothing_learns(tiny_model: OneStepModel) -> None:
    decoder = tiny_model.vae.decoder
    silent, learning, working = [*decoder.mid_block.resnets, decoder.up_blocks[0].resnets[0]]
    for block in (silent, learning):
        for parameter in block.conv2.parameters():
            parameter.zero_()
    upscaled, entered = torch.rand(1, 3, 32, 32), []
    for name, block in (("silent", silent), ("learning", learning), ("working", working)):
        block.conv1.register_forward_hook(lambda *_, name=name: entered.append(name))
    wanted = tiny_model(upscaled)
    assert entered == ["silent", "learning", "working"]
    entered.clear()
    with silent_blocks_skipped(tiny_model, list(learning.parameters())):
        assert torch.equal(tiny_model(upscaled), wanted)
    assert entered == ["learning", "working"]
    entered.clear()
    assert torch.equal(tiny_model(upscaled), wanted)
    assert len(entered) == 3
