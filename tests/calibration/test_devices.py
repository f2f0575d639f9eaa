"""Calibration on another device than the CPU: on meta, whose tensors meet none of the CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from calibrating import small_method
from torch import nn

from passionsr_cli import methods
from passionsr_cli.allocation.layer_plans import quantize_model
from passionsr_cli.allocation.sensitivity import Candidates, measure_sensitivity
from passionsr_cli.calibration.passes import observe, observer_states
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.fitting.loop import write_state
from passionsr_cli.layers.convert import build_layer, freeze, learning_layers, set_state
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT
from passionsr_cli.quantization.schemes import LayerPlan, Scheme, State

META = torch.device("meta")
PLAN = LayerPlan(Scheme(4, False, 0), Scheme(4), True, True)


@pytest.fixture(autouse=True)
def meta_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rounding on meta, where torch has none, no autocast, and a size of what has no values."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())
    monkeypatch.setattr("passionsr_cli.quantization.low_rank._size", lambda tensor: 1.0)
    monkeypatch.setattr("passionsr_cli.quantization.bounds_init.SHARES", (0.5,))
    with torch.library._scoped_library("aten", "IMPL") as library:
        for kind in ("per_tensor", "per_channel"):
            name = f"_fake_quantize_learnable_{kind}_affine"
            library.impl(name, lambda x, *_: torch.empty_like(x), "Meta")
        yield


def _layer() -> LearningLayer:
    made = build_layer(nn.Conv2d(5, 6, 3, padding=1), PLAN)
    assert isinstance(made, LearningLayer)
    made.state = State.OBSERVING
    return made


# Between them they have every part that a layer can have.
@pytest.mark.parametrize("method", ["passionsr", "qartsr", "qdiffusion", "qdm"])
@torch.no_grad()
def test_layers_are_where_the_model_is(method: str, least_model: OneStepModel) -> None:
    values = {"unet": "w4a4", "vae": "w4a4", **small_method(method)}
    settings = CalibrationSettings.model_validate(values)
    with META:
        model, x = OneStepModel(least_model.description), torch.empty(1, 3, 32, 32)
    quantize_model(model, settings, methods.build(settings).design)
    layers = list(learning_layers(model).values())
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    set_state(layers, State.OBSERVING)
    model(x)
    for layer in layers:
        layer.start_transform(0.5)
        layer.start_branch()
        layer.start_bounds()
    set_state(layers, State.QUANTIZING)
    assert model(x).is_meta
    freeze(model)
    assert model(x).is_meta


def test_observing_goes_on_where_the_model_is(tmp_path: Path) -> None:
    file, first = tmp_path / "observing.pt", _layer()
    first(torch.randn(1, 5, 8, 8))
    for observer in first.observers().values():
        observer.end_batch()
    write_state(file, {"done": 1, "observers": observer_states({"layer": first})})
    with META:
        layer, x = _layer(), torch.empty(1, 5, 8, 8)
    observe(layer, {"layer": layer}, lambda numbers: x, [[0], [1]], file, 60, "task", SILENT)
    assert all(bound.is_meta for bound in layer.channel_observer.bounds())


def test_sensitivity_is_measured_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # What meta cannot tell are numbers.
    monkeypatch.setattr(torch.Tensor, "__float__", lambda tensor: 0.0)
    with META:
        model, x = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)), torch.empty(1, 3, 8, 8)
    schemes = {("weight", 4): Scheme(4, False, 0), ("activation", 4): Scheme(4)}
    found = measure_sensitivity(model, {"0": Candidates([PLAN], schemes)}, (), [x], SILENT)
    assert found["0"].keys() == {("weight", 4, 0), ("activation", 4, 0)}
