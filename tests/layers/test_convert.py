from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from passionsr_cli.layers.convert import (
    apply,
    build_layer,
    convert,
    freeze,
    frozen_layers,
    learning_layers,
    quantized_layers,
    set_state,
)
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import (
    ATTENTION,
    AttentionPlan,
    LayerPlan,
    Plan,
    Scheme,
    State,
)


def _decide(name: str, kind: str, layer: nn.Module) -> tuple[Plan | None, str]:
    if name == "unet.conv_out":
        return None, "left alone for this test"
    if kind == ATTENTION:
        return AttentionPlan(Scheme(6), True), ""
    return LayerPlan(Scheme(4, False, 0), Scheme(6), True, False, split=3), ""


@torch.no_grad()
def test_every_product_of_a_model_is_converted(tiny_model: OneStepModel) -> None:
    kinds = (nn.Conv2d, nn.Linear, Attention)
    names = [name for name, layer in tiny_model.named_modules() if isinstance(layer, kinds)]
    upscaled = torch.rand(1, 3, 32, 32)
    expected = tiny_model(upscaled)
    rows = convert(tiny_model, _decide)
    assert [row.name for row in rows] == names
    assert set(quantized_layers(tiny_model)) == set(names) - {"unet.conv_out"}
    left = [row for row in rows if row.plan is None]
    assert [(row.name, row.reason) for row in left] == [
        ("unet.conv_out", "left alone for this test")
    ]
    torch.testing.assert_close(tiny_model(upscaled), expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_quantized_says_why() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 1),
    )
    rows = convert(model, lambda name, kind, layer: (LayerPlan(Scheme(8, True, 0), None), ""))
    assert [row.reason for row in rows] == ["grouped convolution", "padding reflect", ""]
    assert list(quantized_layers(model)) == ["2"]


def test_plans_can_be_applied_to_a_model_without_numbers(tiny_model: OneStepModel) -> None:
    rows = convert(tiny_model, _decide)
    with torch.device("meta"):
        skeleton = OneStepModel(tiny_model.description)
        apply(skeleton, rows, lambda layer, record: build_layer(layer, record.plan))
    assert set(quantized_layers(skeleton)) == set(quantized_layers(tiny_model))


@torch.no_grad()
def test_frozen_layers_take_the_place_of_those_that_learned(tiny_model: OneStepModel) -> None:
    convert(tiny_model, _decide)
    learning = learning_layers(tiny_model)
    upscaled = torch.rand(1, 3, 32, 32)
    set_state(list(learning.values()), State.OBSERVING)
    tiny_model(upscaled)
    for layer in learning.values():
        layer.start_bounds()
    set_state(list(learning.values()), State.QUANTIZING)
    expected = tiny_model(upscaled)
    frozen = freeze(tiny_model)
    assert list(frozen) == list(learning) == list(frozen_layers(tiny_model))
    assert not learning_layers(tiny_model)
    assert not any(parameter.requires_grad for parameter in tiny_model.parameters())
    torch.testing.assert_close(tiny_model(upscaled), expected, rtol=1e-4, atol=1e-4)
