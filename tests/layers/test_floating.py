from __future__ import annotations

import torch
from integers import frozen
from torch import nn

from passionsr_cli.layers.floating import floating_twin
from passionsr_cli.layers.frozen import FrozenAttention
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.quantization.schemes import OPERANDS, LayerPlan, Scheme


@torch.no_grad()
def test_only_the_rounding_of_what_passes_through_is_gone() -> None:
    plan = LayerPlan(Scheme(4, False, 0), Scheme(3), channel_scale=True, channel_shift=True)
    for plain, shape in (
        (nn.Conv2d(5, 6, 3, stride=2, padding=(1, 2)), (2, 5, 9, 8)),
        (nn.Linear(5, 6), (2, 7, 5)),
    ):
        model = nn.ModuleDict({"layer": frozen(LearningLayer(plain, plan), shape)})
        x = torch.randn(shape)
        layer = model["layer"]
        rounded = layer(x)
        layer.input_quantizer = None
        wanted = layer(x)
        found = floating_twin(model)["layer"](x)
        assert type(model["layer"]) is type(plain)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        assert (rounded - wanted).abs().max() > 0.01


@torch.no_grad()
def test_attentions_are_those_of_diffusers_again(tiny_model: OneStepModel) -> None:
    latent = torch.randn(1, 4, 8, 8)
    wanted = tiny_model.predict(latent)
    step = Grid(Scheme(8), torch.tensor(1.0), torch.tensor(0.0))
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
    attention = tiny_model.get_submodule(name)
    attention.set_processor(FrozenAttention(2, None, dict.fromkeys(OPERANDS, step)))
    assert not torch.allclose(tiny_model.predict(latent), wanted)
    torch.testing.assert_close(floating_twin(tiny_model).predict(latent), wanted)
