from __future__ import annotations

import threading

import pytest
import torch

from passionsr_cli.allocation.layer_plans import quantize_model
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.conversion.tracing import component_of_model, traced_as_operations
from passionsr_cli.layers.convert import freeze, frozen_layers, learning_layers, set_state
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.methods.stages import PLAIN
from passionsr_cli.models.components import COMPONENTS, DECODER, UNET, component_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import State


@pytest.fixture
def frozen(tiny_model: OneStepModel) -> OneStepModel:
    quantize_model(tiny_model, CalibrationSettings(unet="w4a8", vae="w6a6"), PLAIN)
    layers = list(learning_layers(tiny_model).values())
    set_state(layers, State.OBSERVING)
    with torch.no_grad():
        tiny_model(torch.rand(1, 3, 32, 32))
    for layer in layers:
        layer.start_bounds()
    freeze(tiny_model)
    return tiny_model


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_has_its_own_weights_alone(frozen: OneStepModel, component: str) -> None:
    part = component_of_model(frozen, component).part
    names = {name.removeprefix("model.") for name, _ in part.named_parameters()}
    assert names
    assert {component_of(name) for name in names} == {component}


def test_operations_are_the_quantized_layers_and_what_attention_rounds(
    frozen: OneStepModel,
) -> None:
    traced = component_of_model(frozen, UNET)
    layers = {name: x for name, x in frozen_layers(frozen).items() if name.startswith("unet.")}
    weighted = {name for name, layer in layers.items() if isinstance(layer, FrozenLayer)}
    assert set(traced.layers) == weighted
    assert set(traced.attentions) == layers.keys() - weighted
    assert len(traced.operations) == len(weighted) + 4 * len(traced.attentions)
    # Timestep and context are constants of a one-step model.
    kinds = ("time_emb", "attn2.to_k", "attn2.to_v")
    expected = {name for name in weighted if any(kind in name for kind in kinds)}
    assert set(traced.folded) == expected


def test_a_trace_sees_shapes_and_leaves_the_model_as_it_was(frozen: OneStepModel) -> None:
    traced = component_of_model(frozen, DECODER)
    with torch.no_grad():
        before = traced.part(traced.example)
    layer = frozen.vae.decoder.mid_block.resnets[0].conv1

    def stop_inside() -> None:
        with traced_as_operations(traced) as part:
            assert frozen.vae.decoder.mid_block.resnets[0].conv1 is not layer
            assert part(traced.example).shape == before.shape
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_inside()
    assert frozen.vae.decoder.mid_block.resnets[0].conv1 is layer
    with torch.no_grad():
        assert torch.equal(traced.part(traced.example), before)


def test_one_conversion_at_a_time(frozen: OneStepModel) -> None:
    """Each would see the other's operations, and forget which warnings the process had."""
    other = component_of_model(frozen, UNET)
    inside = threading.Event()

    def convert() -> None:
        with traced_as_operations(other):
            inside.set()

    thread = threading.Thread(target=convert)
    with traced_as_operations(component_of_model(frozen, DECODER)):
        thread.start()
        assert not inside.wait(0.2)
    thread.join()
    assert inside.is_set()
