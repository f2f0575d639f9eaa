from __future__ import annotations

import pytest
import torch

from passionsr_cli.layers.convert import find_layers
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.models.modules import MODULE_KINDS, ModuleKind, modules_of
from passionsr_cli.models.one_step import OneStepModel

KINDS: list[tuple[ModuleKind, ...]] = [MODULE_KINDS, ("resnet",), ("transformer", "sampler"), ()]


def _layers(model: OneStepModel) -> list[str]:
    return [name for name, _, _ in find_layers(model)]


@pytest.mark.parametrize("kinds", KINDS)
def test_every_layer_belongs_to_exactly_one_module(
    tiny_model: OneStepModel, kinds: tuple[ModuleKind, ...]
) -> None:
    layers = _layers(tiny_model)
    modules = modules_of(tiny_model, layers, kinds)
    owned = [layer for module in modules for layer in module.layers]
    assert sorted(owned) == sorted(layers)
    for module in modules:
        assert all(x == module.name or x.startswith(f"{module.name}.") for x in module.layers)


def test_modules_are_in_the_order_in_which_they_end(tiny_model: OneStepModel) -> None:
    modules = modules_of(tiny_model, _layers(tiny_model), MODULE_KINDS)
    ended: list[str] = []
    for module in modules:
        tiny_model.get_submodule(module.name).register_forward_hook(
            lambda block, inputs, output, name=module.name: ended.append(name)
        )
    tiny_model(torch.rand(1, 3, 32, 32))
    assert [module.name for module in modules] == ended
    places = [COMPONENTS.index(module.component) for module in modules]
    assert places == sorted(places)


def test_what_a_module_is_can_be_chosen(tiny_model: OneStepModel) -> None:
    whole = {m.name: m.layers for m in modules_of(tiny_model, _layers(tiny_model), MODULE_KINDS)}
    block = "unet.down_blocks.1.attentions.0"
    assert f"{block}.transformer_blocks.0.attn1.to_q" in whole[block]
    assert whole["vae.encoder.conv_in"] == ("vae.encoder.conv_in",)
    resnets = {m.name for m in modules_of(tiny_model, _layers(tiny_model), ("resnet",))}
    assert f"{block}.transformer_blocks.0.attn1.to_q" in resnets
    assert "unet.down_blocks.1.resnets.0" in resnets
    assert modules_of(tiny_model, ["unet.conv_in"], MODULE_KINDS)[0].layers == ("unet.conv_in",)
