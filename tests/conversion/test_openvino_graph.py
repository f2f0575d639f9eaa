from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops
from torch import Tensor, nn

from passionsr_cli.conversion.openvino_graph import component_graph, layer_node
from passionsr_cli.conversion.saturation import overflows
from passionsr_cli.graphs.arithmetic import products_saturate
from passionsr_cli.graphs.core import DEVICE, core
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.models.components import COMPONENTS, DECODER, ENCODER, UNET
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import LayerPlan, Scheme, State


def _run(model: openvino.Model, x: Tensor) -> Tensor:
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled([x.numpy()])[0].copy())


def _calibrated(layer: LearningLayer, x: Tensor) -> FrozenLayer:
    """Frozen, with scales and shifts as learning leaves them: anything."""
    if layer.transform is not None:
        layer.transform.log_scale.data.normal_(std=0.7)
        if layer.transform.shift_ratio is not None:
            layer.transform.shift_ratio.data.normal_(std=0.3)
    layer.state = State.OBSERVING
    layer(x)
    layer.start_bounds()
    return layer.freeze()


def _layers(weight: Scheme | None, activation: Scheme | None) -> list[tuple[LearningLayer, Tensor]]:
    torch.manual_seed(1)
    moved = LayerPlan(weight, activation, channel_scale=True, channel_shift=True)
    scaled = LayerPlan(weight, activation, channel_scale=True)
    image, tokens = torch.randn(2, 5, 9, 8), torch.randn(2, 7, 5)
    return [
        (LearningLayer(nn.Conv2d(5, 6, 3, padding=1), scaled), image),
        (LearningLayer(nn.Conv2d(5, 6, 3, stride=2, padding=1), moved), image),
        (LearningLayer(nn.Conv2d(5, 6, 1), LayerPlan(weight, activation)), image),
        (LearningLayer(nn.Linear(5, 6, bias=False), moved), tokens),
        (LearningLayer(nn.Linear(5, 6), scaled), tokens[:, 0]),
    ]


SCHEMES = [
    *((Scheme(bits, bits == 8, 0), Scheme(bits)) for bits in range(2, 9)),
    (Scheme(8, False, 0), Scheme(8, True)),
    (Scheme(6, True, None), Scheme(4, True)),
    (Scheme(4, False, 0), None),
    (None, Scheme(5)),
]


@pytest.mark.parametrize(("weight", "activation"), SCHEMES)
def test_layers_compute_what_torch_defines(
    weight: Scheme | None, activation: Scheme | None
) -> None:
    for learning, x in _layers(weight, activation):
        layer = _calibrated(learning, x)
        source = ops.parameter(list(x.shape), np.float32)
        on_integers = not (products_saturate() and overflows(layer))
        model = openvino.Model([layer_node(layer, "layer", source, on_integers)], [source])
        with torch.no_grad():
            wanted = layer(x)
        far = (_run(model, x) - wanted).abs() > 1e-4 * wanted.abs().max()
        # A value midway between two integers may go either way.
        assert float(far.float().mean()) < 0.01


def test_branches_run_in_bfloat16_beside_the_integers() -> None:
    torch.manual_seed(1)
    plan = LayerPlan(
        Scheme(4, False, 0), Scheme(8), channel_scale=True, channel_shift=True, rank=16
    )
    image, tokens = torch.randn(1, 64, 16, 16), torch.randn(2, 70, 64)
    cases: list[tuple[LearningLayer, Tensor]] = [
        (LearningLayer(nn.Conv2d(64, 48, 3, padding=1), plan), image),
        (LearningLayer(nn.Conv2d(64, 48, 3, stride=2, padding=1), plan), image),
        (LearningLayer(nn.Conv2d(64, 48, 1, bias=False), plan), image),
        (LearningLayer(nn.Linear(64, 48), plan), tokens),
    ]
    for learning, x in cases:
        learning.start_branch()
        layer = _calibrated(learning, x)
        source = ops.parameter(list(x.shape), np.float32)
        model = openvino.Model([layer_node(layer, "layer", source)], [source])
        found = _run(model, x)
        # Several roundings to bfloat16 may each go the other way.
        wanted = layer(x)
        branch = layer.product.branch(x, *layer.branch).float()
        assert (found - wanted).abs().max() < 2**-7 * branch.abs().max()
        assert (found - wanted).square().mean() < 2**-16 * branch.square().mean()
        kernels = _kernels(model, x)
        if "BF16" in core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
            assert sum("bf16" in kernel for kernel in kernels) >= 2
        assert any("I8" in kernel or "i8" in kernel for kernel in kernels)


def _kernels(model: openvino.Model, x: Tensor) -> list[str]:
    """What runs the products of a model."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": "YES"}
    request = core().compile_model(model, "CPU", options).create_infer_request()
    request.infer([x.numpy()])
    products = ("Convolution", "MatMul", "FullyConnected")
    return [p.exec_type for p in request.get_profiling_info() if p.node_type in products]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [False, True])
def test_every_level_of_a_grid_is_hit(bits: int, symmetric: bool) -> None:
    """Through an identity the input's grid itself comes out, clipped ends included."""
    identity = nn.Conv2d(1, 1, 1, bias=False)
    identity.weight.data.fill_(1)
    plan = LayerPlan(None, Scheme(bits, symmetric))
    x = torch.tensor([-0.7, 1.9]).reshape(1, 1, 1, 2)
    layer = _calibrated(LearningLayer(identity, plan), x)
    grid = layer.input_grid
    assert grid
    codes = torch.arange(grid.scheme.quant_min - 3, grid.scheme.quant_max + 4)
    x = ((codes - grid.zero_point) * grid.scale + 0.3 * grid.scale).reshape(1, 1, 1, -1)
    source = ops.parameter(list(x.shape), np.float32)
    found = _run(openvino.Model([layer_node(layer, "layer", source)], [source]), x)
    kept = codes.clamp(grid.scheme.quant_min, grid.scheme.quant_max)
    assert torch.allclose(found.flatten(), (kept - grid.zero_point) * grid.scale, atol=1e-5)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_takes_any_size_and_batch(tiny_model: OneStepModel, component: str) -> None:
    graph = component_graph(tiny_model, component)
    assert graph.layers == graph.attentions == ()
    steps: dict[str, Any] = {
        ENCODER: tiny_model.encode,
        UNET: tiny_model.predict,
        DECODER: tiny_model.decode,
    }
    channels = 3 if component == ENCODER else 4
    for batch, height, width in ((1, 16, 24), (3, 40, 8)):
        x = torch.rand(batch, channels, height, width)
        with torch.no_grad():
            wanted = steps[component](x)
        assert torch.allclose(_run(graph.model, x), wanted, atol=1e-4)
    # The model is as it was.
    assert "forward" not in vars(tiny_model.vae)
