"""Every width of integers on every kind of layer, against a float64 reference."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
import torch
from integers import BITS, WEIGHTS, frozen, input_on_every_level, layers_of_all_kinds, reference
from openvino import opset13 as ops
from torch import Tensor

from passionsr_cli.conversion.openvino_graph import layer_node
from passionsr_cli.conversion.saturation import overflows
from passionsr_cli.graphs.arithmetic import products_saturate
from passionsr_cli.graphs.core import core
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.quantization.schemes import Scheme


def _check(layers: list[FrozenLayer], inputs: list[Tensor], on_integers: list[bool]) -> None:
    sources = [ops.parameter(list(x.shape), np.float32) for x in inputs]
    nodes = [
        layer_node(layer, f"layer{number}", source, integers)
        for number, (layer, source, integers) in enumerate(
            zip(layers, sources, on_integers, strict=True)
        )
    ]
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core().compile_model(openvino.Model(nodes, sources), "CPU", settings)
    found = compiled([x.numpy() for x in inputs])
    for number, (layer, x) in enumerate(zip(layers, inputs, strict=True)):
        wanted = reference(layer, x).numpy()
        largest = float(np.abs(found[number] - wanted).max())
        assert largest < 2e-5 * np.abs(wanted).max(), f"layer {number}: {layer.product}"


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_layers_compute_what_their_integers_say(weight: tuple[int, bool], symmetric: bool) -> None:
    """As this CPU runs them, and as one would whose sums of products saturate."""
    for bits in BITS:
        torch.manual_seed(bits)
        cases = layers_of_all_kinds(Scheme(*weight, 0), Scheme(bits, symmetric))
        layers = [frozen(layer, shape) for layer, shape in cases]
        inputs = [
            input_on_every_level(layer, shape)
            for layer, (_, shape) in zip(layers, cases, strict=True)
        ]
        safe = [not overflows(layer) for layer in layers]
        _check(layers, inputs, safe)
        if not all(safe) and not products_saturate():
            _check(layers, inputs, [True] * len(layers))
