from __future__ import annotations

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from passionsr_cli.conversion.onnx_graph import INPUT_NAME, program
from passionsr_cli.conversion.tracing import Component, Operation
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.layers.products import Convolution
from passionsr_cli.quantization.schemes import LayerPlan, Scheme, State


class _Layers(nn.Module):
    """Several layers side by side on one image (B, C, H, W)."""

    def __init__(self, layers: dict[str, FrozenLayer]) -> None:
        super().__init__()
        self.model = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        results = [self.model[name](x) for name in ("scaled", "moved", "plain")]
        results += [self.model[name](tokens) for name in ("linear", "biased")]
        return torch.cat([result.flatten(1) for result in results], 1)


def _calibrated(
    weight: Scheme | None, activation: Scheme | None, x: Tensor, rank: int = 0
) -> dict[str, FrozenLayer]:
    """Frozen layers of all kinds, with scales and shifts as learning leaves them: anything."""
    moved = LayerPlan(weight, activation, channel_scale=True, channel_shift=True, rank=rank)
    scaled = LayerPlan(weight, activation, channel_scale=True, rank=rank)
    layers = {
        "scaled": LearningLayer(nn.Conv2d(5, 6, 3, padding=1), scaled),
        "moved": LearningLayer(nn.Conv2d(5, 6, 3, stride=2, padding=1), moved),
        "plain": LearningLayer(nn.Conv2d(5, 6, 1, bias=False), LayerPlan(weight, activation)),
        "linear": LearningLayer(nn.Linear(5, 6, bias=False), moved),
        "biased": LearningLayer(nn.Linear(5, 6), scaled),
    }
    for layer in layers.values():
        if layer.transform is not None:
            layer.transform.log_scale.data.normal_(std=0.7)
            if layer.transform.shift_ratio is not None:
                layer.transform.shift_ratio.data.normal_(std=0.3)
        layer.start_branch()
        layer.state = State.OBSERVING
        layer(x if isinstance(layer.product, Convolution) else x.permute(0, 2, 3, 1))
        layer.start_bounds()
    return {name: layer.freeze() for name, layer in layers.items()}


SCHEMES = [
    (Scheme(8, True, 0), Scheme(8)),
    (Scheme(8, False, 0), Scheme(8, True)),
    (Scheme(6, False, 0), Scheme(6)),
    (Scheme(5, True, None), Scheme(5, True)),
    (Scheme(4, False, 0), None),
    (Scheme(2, False, 0), Scheme(2)),
    (None, Scheme(3)),
]


@pytest.mark.parametrize(("weight", "activation"), SCHEMES)
@pytest.mark.parametrize("rank", [0, 3])
def test_layers_compute_what_torch_defines(
    weight: Scheme | None, activation: Scheme | None, rank: int
) -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 5, 8, 8)
    layers = _calibrated(weight, activation, x, rank)
    part = _Layers(layers).requires_grad_(False)
    operations = tuple(Operation(name, layer, None) for name, layer in layers.items())
    converted = program(Component(part, x, operations, ()), 8).model_proto
    onnx.checker.check_model(converted)
    options = onnxruntime.SessionOptions()
    # Weights of fewer than 8 bits it would otherwise multiply with inputs it rounds on its own.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(converted.SerializeToString(), options)
    found = session.run(None, {INPUT_NAME: x.numpy()})[0]
    wanted = part(x)
    # Branches are rounded to bfloat16, which may go either way too.
    tolerance = 2**-8 if rank else 1e-4
    far = (torch.from_numpy(found) - wanted).abs() > tolerance * wanted.abs().max()
    # A value midway between two integers may go either way.
    assert float(far.float().mean()) < 0.01
    # The module itself was put back.
    assert part.model["scaled"] is layers["scaled"]


def test_the_graph_is_standard_and_says_which_layer_is_which() -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 5, 8, 8)
    layers = _calibrated(Scheme(6, False, 0), Scheme(6), x)
    operations = tuple(Operation(name, layer, None) for name, layer in layers.items())
    graph = program(Component(_Layers(layers), x, operations, ())).model_proto.graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    products = {node.name: node.op_type for node in graph.node if node.name in layers}
    assert products == {
        "scaled": "Conv",
        "moved": "Conv",
        "plain": "Conv",
        "linear": "MatMul",
        "biased": "MatMul",
    }
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("Clip") == len(layers)
    # Two layers have a shift; the padded one of them needs its border before it.
    assert kinds.count("Sub") == 2
    assert kinds.count("Pad") == 1
    stored = {t.name: t.data_type for t in graph.initializer}
    weights = [n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"]
    integers = [stored[name] for name in weights if name in stored]
    assert integers == [onnx.TensorProto.INT8] * len(layers)
    sides = [d.dim_param for d in graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", "", "height", "width"]
