from __future__ import annotations

import pytest
import torch

from passionsr_cli.layers.convert import find_layers
from passionsr_cli.models.chain import Chain, concatenations
from passionsr_cli.models.components import COMPONENTS, component_of
from passionsr_cli.models.one_step import OneStepModel


@torch.no_grad()
def test_the_components_make_the_model(tiny_model: OneStepModel) -> None:
    upscaled = torch.rand(1, 3, 32, 32)
    x = upscaled
    for component in COMPONENTS:
        x = Chain(tiny_model, (component,))(x)
    torch.testing.assert_close(x, tiny_model(upscaled))
    torch.testing.assert_close(Chain(tiny_model, COMPONENTS)(upscaled), tiny_model(upscaled))


@torch.no_grad()
def test_a_chain_may_end_in_the_noise(tiny_model: OneStepModel) -> None:
    latent = torch.randn(1, 4, 8, 8, generator=torch.manual_seed(0))
    noise = Chain(tiny_model, ("unet",), to_noise=True)(latent)
    torch.testing.assert_close(noise, tiny_model.predict(latent))
    restored = Chain(tiny_model, ("unet",))(latent)
    torch.testing.assert_close(tiny_model.to_noise(latent, restored), noise, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_chain_may_end_in_both_heads(dial_model: OneStepModel, tiny_model: OneStepModel) -> None:
    latent = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(0))
    both = Chain(dial_model, ("unet",), each_head=True)(latent)
    for found, realism in zip(both.chunk(2), (0, 1), strict=True):
        expected = dial_model.to_x0(latent, dial_model.predict(latent, realism))
        torch.testing.assert_close(found, expected)
    at_default = dial_model.to_x0(latent, dial_model.predict(latent, 0.25))
    torch.testing.assert_close(Chain(dial_model, ("unet",))(latent), at_default)
    noise = Chain(dial_model, ("unet",), to_noise=True)(latent)
    found = dial_model.to_noise(latent, at_default)
    torch.testing.assert_close(found, noise, rtol=1e-4, atol=1e-5)
    alone = Chain(tiny_model, ("unet",), each_head=True)(latent)
    torch.testing.assert_close(alone, Chain(tiny_model, ("unet",))(latent))


def test_every_layer_belongs_to_a_component(tiny_model: OneStepModel) -> None:
    owners = {name: component_of(name) for name, _, _ in find_layers(tiny_model)}
    assert set(owners.values()) == set(COMPONENTS)
    assert owners["vae.quant_conv"] == "encoder"
    assert owners["vae.post_quant_conv"] == "decoder"
    with pytest.raises(KeyError):
        component_of("context")


@torch.no_grad()
def test_concatenations_are_where_diffusers_makes_them(
    tiny_model: OneStepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watch what is concatenated while the UNet runs, and which layer reads it next."""
    from diffusers.models.unets import unet_2d_blocks

    widths: list[int] = []
    seen: dict[str, int] = {}
    plain = torch.cat

    def cat(tensors, dim=0):  # type: ignore[no-untyped-def]
        widths.append(tensors[0].shape[1])
        return plain(tensors, dim)

    def look(name: str):  # type: ignore[no-untyped-def]
        def hook(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen[name] = widths[-1]

        return hook

    found = concatenations(tiny_model)
    for name in found:
        tiny_model.get_submodule(name).register_forward_pre_hook(look(name))
    monkeypatch.setattr(unet_2d_blocks.torch, "cat", cat)
    tiny_model.predict(torch.randn(1, 4, 8, 8))
    assert found == seen
    readers = [name for name, _, _ in find_layers(tiny_model) if "up_blocks" in name]
    expected = {n for n in readers if n.startswith("unet.") and n.endswith(("conv1", "shortcut"))}
    assert set(found) == expected
