from __future__ import annotations

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops
from torch import nn

from passionsr_cli.conversion.openvino_graph import operation_node
from passionsr_cli.conversion.saturation import overflowing, overflows
from passionsr_cli.conversion.tracing import Component, Operation
from passionsr_cli.graphs.core import core
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.products import Convolution
from passionsr_cli.quantization.affine import Grid, Scheme
from passionsr_cli.quantization.quantizer import FrozenQuantizer, Quantizer


def _layer(activation: Scheme, input_zero_point: int, largest_weight: int) -> FrozenLayer:
    """A 1×1 convolution whose integers are ±`largest_weight`."""
    weight = Scheme(8, True, 0)
    integers = torch.full((3, 2, 1, 1), largest_weight, dtype=torch.int16)
    integers[1] *= -1
    grid = Grid(activation, torch.tensor(0.1), torch.tensor(float(input_zero_point)))
    one = Grid(weight, torch.ones(3), torch.zeros(3))
    return FrozenLayer(Convolution((1, 1), (0, 0), (1, 1)), integers, one, input_grid=grid)


@pytest.mark.parametrize(
    ("activation", "zero_point", "largest_weight", "expected"),
    [
        (Scheme(8), 0, 64, False),  # 2 · 255 · 64 = 32640
        (Scheme(8), 0, 65, True),  # 2 · 255 · 65 = 33150
        (Scheme(7), 0, 127, False),  # 2 · 127 · 127 = 32258
        (Scheme(8, True), 0, 64, False),  # moved up by 128: as above
        (Scheme(8, True), 0, 65, True),
        (Scheme(4), 0, 127, False),  # 2 · 15 · 127
        (Scheme(4), 8, 127, True),  # may be moved up: 2 · 135 · 127 = 34290
        (Scheme(4), 8, 121, False),  # 2 · 135 · 121 = 32670
        (Scheme(2, True), 0, 127, False),  # 2 · 129 · 127 = 32766
    ],
)
def test_sums_of_two_products_are_held_against_16_bits(
    activation: Scheme, zero_point: int, largest_weight: int, expected: bool
) -> None:
    assert overflows(_layer(activation, zero_point, largest_weight)) == expected


def test_constants_do_not_overflow() -> None:
    layer = _layer(Scheme(8), 0, 127)
    operations = (Operation("alone", layer, None), Operation("folded", layer, torch.zeros(1)))
    component = Component(nn.Identity(), torch.zeros(1), operations, ())
    assert overflowing(component) == {"alone"}


def _operands(bits: int) -> dict[str, FrozenQuantizer]:
    operands = {}
    for name in ("query", "key", "probability", "value"):
        quantizer = Quantizer(Scheme(bits, symmetric=name in ("query", "key")))
        low = 0.0 if name == "probability" else -1.7
        quantizer.start(torch.tensor(low), torch.tensor(1.6))
        operands[name] = FrozenQuantizer(quantizer.grid())
    return operands


def _attention(bits: int) -> Component:
    operations = tuple(
        Operation(f"block.attn.processor.{name}", quantizer, None)
        for name, quantizer in _operands(bits).items()
    )
    return Component(nn.Identity(), torch.zeros(1), operations, ("block.attn",))


def test_attention_products_overflow_together() -> None:
    assert len(overflowing(_attention(8))) == 4
    assert overflowing(_attention(6)) == frozenset()


@torch.no_grad()
def test_products_of_attention_without_integers_are_exact() -> None:
    """At 8 bits, on any CPU, where integers could saturate."""
    torch.manual_seed(0)
    operands = _operands(8)
    for names, transposed in ((("query", "key"), True), (("probability", "value"), False)):
        values, sources, nodes = [], [], []
        for name in names:
            grid = operands[name].grid()
            codes = torch.randint(
                grid.scheme.quant_min - 2, grid.scheme.quant_max + 3, (1, 2, 32, 32)
            )
            x = ((codes + 0.3 - grid.zero_point) * grid.scale).float()
            kept = codes.clamp(grid.scheme.quant_min, grid.scheme.quant_max) - grid.zero_point
            values.append((kept.double() * grid.scale).numpy())
            sources.append((ops.parameter([1, 2, 32, 32], np.float32), x.numpy()))
            operation = Operation(name, operands[name], None)
            nodes.append(operation_node(operation, sources[-1][0], on_integers=False))
        product = ops.matmul(*nodes, False, transposed)
        model = openvino.Model([product], [source for source, _ in sources])
        compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled([x for _, x in sources])[0]
        wanted = values[0] @ (values[1].swapaxes(-1, -2) if transposed else values[1])
        assert np.abs(found - wanted).max() < 2e-5 * np.abs(wanted).max()
