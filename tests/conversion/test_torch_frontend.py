from __future__ import annotations

import openvino
import pytest
import torch
from torch import nn

from passionsr_cli.conversion.torch_frontend import traced_graph
from passionsr_cli.graphs.core import core

SHAPE = openvino.PartialShape([-1, 3, -1, -1])


def _module() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.GroupNorm(2, 8), nn.SiLU())
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 9, 14)])
def test_a_graph_computes_what_its_module_does(shape: tuple[int, ...]) -> None:
    module, image = _module(), torch.rand(shape)
    graph = traced_graph(module, torch.rand(1, 3, 8, 8), SHAPE)
    # CPUs with bf16 would round to it.
    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = torch.from_numpy(compiled(image.numpy())[0])
    assert torch.allclose(found, module(image), atol=1e-5)
