from __future__ import annotations

import pytest
import torch
from reporting import Heard
from torch import Tensor

from passionsr_cli.allocation.layer_plans import quantize_model
from passionsr_cli.calibration import roundings
from passionsr_cli.calibration.roundings import decide_roundings
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.layers.convert import Learning, learning_layers, set_state
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.methods.stages import LayerDesign
from passionsr_cli.models.chain import Chain
from passionsr_cli.models.modules import MODULE_KINDS, modules_of
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT
from passionsr_cli.quantization.rounding import DecidedRounding
from passionsr_cli.quantization.schemes import State

COUNT = 3


def _images(numbers: object) -> Tensor:
    (number,) = numbers  # type: ignore[misc]
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(number))


@pytest.fixture
def layers(tiny_model: OneStepModel) -> dict[str, Learning]:
    quantize_model(
        tiny_model, CalibrationSettings(unet="w3a4", vae="fp"), LayerDesign(rounding="gptq")
    )
    tiny_model.requires_grad_(False)
    found = learning_layers(tiny_model)
    set_state(list(found.values()), State.OBSERVING)
    for number in range(COUNT):
        Chain(tiny_model, ("unet",))(_images([number]))
    for layer in found.values():
        layer.start_bounds()
    return found


def _decided(layers: dict[str, Learning]) -> dict[str, Tensor]:
    return {
        name: layer.rounding.decided.clone()
        for name, layer in layers.items()
        if isinstance(layer, LearningLayer) and isinstance(layer.rounding, DecidedRounding)
    }


def test_every_layer_is_rounded_for_what_reaches_it(
    tiny_model: OneStepModel, layers: dict[str, Learning], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, nearest = Chain(tiny_model, ("unet",)), _decided(layers)
    # Modules whose turn is over are quantized when the next one is looked at.
    modules = [m.name for m in modules_of(tiny_model, list(layers), MODULE_KINDS)]
    seen: list[set[State]] = []
    plain = roundings.decide_rounding

    def watch(layer: LearningLayer, rows: Tensor) -> None:
        assert rows.shape[1] == layer.weight[0].numel()
        seen.append({other.state for other in layers.values()})
        plain(layer, rows)

    monkeypatch.setattr(roundings, "decide_rounding", watch)
    heard = Heard()
    decide_roundings(chain, _images, layers, COUNT, "rounding", heard)
    assert heard.places == [("rounding", n + 1) for n in range(len(modules))]
    assert seen[0] == {State.FLOAT}
    assert all(State.QUANTIZING in states for states in seen[2:])
    assert {layer.state for layer in layers.values()} == {State.QUANTIZING}
    changed = [name for name, q in _decided(layers).items() if not torch.equal(q, nearest[name])]
    assert len(changed) > 0.5 * len(nearest)


def test_the_result_does_not_depend_on_when(
    tiny_model: OneStepModel, layers: dict[str, Learning]
) -> None:
    chain = Chain(tiny_model, ("unet",))
    decide_roundings(chain, _images, layers, COUNT, "", SILENT)
    first = _decided(layers)
    # Started over, as after a kill.
    decide_roundings(chain, _images, layers, COUNT, "", SILENT)
    assert all(torch.equal(q, first[name]) for name, q in _decided(layers).items())
