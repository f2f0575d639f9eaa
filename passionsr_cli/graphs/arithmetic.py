"""Exactness of this CPU's sums of 8-bit products, and graphs that suit it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import openvino
from openvino import opset13 as ops

from passionsr_cli.graphs.core import DEVICE, core
from passionsr_cli.system import cpu

if TYPE_CHECKING:
    from passionsr_cli.conversion.openvino_graph import ComponentGraph
    from passionsr_cli.models.one_step import OneStepModel

LARGEST_INPUT, LARGEST_WEIGHT, CHANNELS = 255, 127, 64
# With this all of OpenVINO's integer kernels sum in 32 bits: a start need not wait for a proof.
EXACT_INSTRUCTIONS = "avx512_vnni"


@functools.cache
def products_saturate() -> bool:
    """Tell whether OpenVINO's integer kernels are wrong where two products exceed 16 bits."""
    return EXACT_INSTRUCTIONS not in cpu.instructions() and kernels_saturate()


def kernels_saturate() -> bool:
    """The same, asked of the kernels themselves: which instructions a CPU has is known differently
    on each system, and which of the narrower ones a kernel uses nowhere."""
    x = ops.parameter([1, CHANNELS, 1, CHANNELS], np.float32)
    bounds = [ops.constant(np.float32(bound)) for bound in (0, LARGEST_INPUT)]
    integers = ops.fake_quantize(x, *bounds, *bounds, LARGEST_INPUT + 1)

    def weight(*kernel: int) -> openvino.Node:
        shape = (CHANNELS, CHANNELS, *kernel)
        scales = np.ones((CHANNELS, *[1] * (len(shape) - 1)), np.float32)
        values = ops.convert(ops.constant(np.full(shape, LARGEST_WEIGHT, np.int8)), "f32")
        return ops.multiply(values, ops.constant(scales))

    plain = ([1, 1], [0, 0], [0, 0], [1, 1])
    products = [
        ops.matmul(integers, weight(), False, True),
        ops.convolution(integers, weight(1, 1), *plain),
        ops.convolution(integers, weight(1, 3), *plain),
    ]
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core().compile_model(openvino.Model(products, [x]), DEVICE, settings)
    found = compiled([np.full(list(x.shape), LARGEST_INPUT, np.float32)])
    one = LARGEST_INPUT * LARGEST_WEIGHT * CHANNELS
    return any(
        not np.allclose(found[number], taps * one, rtol=1e-6)
        for number, taps in enumerate((1, 1, 3))
    )


def graph_for_this_cpu(model: OneStepModel, component: str) -> ComponentGraph:
    """`component_graph`, exact on this CPU."""
    from passionsr_cli.conversion.openvino_graph import component_graph

    return component_graph(model, component, products_saturate())
