from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
import torch
import torch.nn.functional as F
from openvino import opset13 as ops

from passionsr_cli.conversion import graph_passes
from passionsr_cli.conversion.graph_passes import begin_behind_moves, fit_to_cpu
from passionsr_cli.conversion.stored_graphs import PART_SUFFIX
from passionsr_cli.graphs.core import core


def _run(model: openvino.Model, x: torch.Tensor) -> torch.Tensor:
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled([x.numpy()])[0].copy())


def _types(model: openvino.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


@pytest.mark.parametrize("groups", [3, 1])
@pytest.mark.parametrize("mean", [0.0, 50.0])
def test_group_normalization_is_what_torch_computes(mean: float, groups: int) -> None:
    """Also where the mean is far larger than what is left without it."""
    torch.manual_seed(0)
    x = torch.randn(2, 12, 9, 8) * torch.rand(2, 12, 1, 1) + mean
    scale, bias = torch.randn(12), torch.randn(12)
    source = ops.parameter(list(x.shape), np.float32)
    constants = (ops.constant(scale.numpy()), ops.constant(bias.numpy()))
    node = ops.group_normalization(source, *constants, groups, 1e-5)
    model = openvino.Model([ops.relu(node)], [source])
    fit_to_cpu(model)
    assert "GroupNormalization" not in _types(model)
    wanted = F.group_norm(x, groups, scale, bias, 1e-5).relu()
    assert torch.allclose(_run(model, x), wanted, atol=1e-5 * (1 + mean))


@pytest.mark.parametrize(("padding", "height", "limit"), [(1, 12, 400), (0, 13, 300), (1, 7, 10)])
def test_strips_put_together_are_the_convolution(
    padding: int, height: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_passes, "LARGE_INPUT_BYTES", limit)
    monkeypatch.setattr(graph_passes, "LARGE_WEIGHT_BYTES", 100)
    torch.manual_seed(0)
    x, weight = torch.randn(1, 8, height, 10), torch.randn(6, 8, 3, 3)
    source: Any = ops.parameter(list(x.shape), np.float32)
    pads = [padding, padding]
    node = ops.convolution(source, ops.constant(weight.numpy()), [1, 1], pads, pads, [1, 1])
    node.set_friendly_name("layer")
    model = openvino.Model([ops.relu(node)], [source])
    fit_to_cpu(model)
    names = [n.get_friendly_name() for n in model.get_ops() if n.get_type_name() == "Convolution"]
    if padding:
        # Every strip carries the layer's name.
        assert len(names) > 1
        assert all(name.startswith(f"layer{PART_SUFFIX}") for name in names)
    else:
        # Without a border the result is smaller; such a layer is left alone.
        assert names == ["layer"]
    wanted = F.conv2d(x, weight, padding=padding).relu()
    assert torch.allclose(_run(model, x), wanted, atol=1e-4)


def test_small_convolutions_and_token_norms_stay() -> None:
    source = ops.parameter([1, 8, 6], np.float32)
    constants = [ops.constant(np.ones(8, np.float32))] * 2
    norm = ops.group_normalization(source, *constants, 2, 1e-5)
    image = ops.reshape(norm, [1, 8, 2, 3], False)
    weight = ops.constant(np.ones((4, 8, 3, 3), np.float32))
    node = ops.convolution(image, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    model = openvino.Model([node], [source])
    before = _types(model)
    fit_to_cpu(model)
    assert _types(model) == before


def test_an_input_meets_its_first_grid_unrounded() -> None:
    """In bf16, with the moves that open an encoder ahead of the grid, codes would flip."""
    source: Any = ops.parameter([1, 3, 4, 6], np.float32)
    apart = ops.reshape(source, [1, 3, 2, 2, 3, 2], False)
    moved = ops.reshape(ops.transpose(apart, [0, 1, 3, 5, 2, 4]), [1, 12, 2, 3], False)
    # A grid per channel, as a transformation makes it, cannot go ahead of the moves.
    tops = np.linspace(1, 2, 12, dtype=np.float32).reshape(1, 12, 1, 1)
    lower, upper = (ops.constant(np.float32(bound)) for bound in (0, 255))
    codes = ops.fake_quantize(moved, ops.constant(0 * tops), ops.constant(tops), lower, upper, 256)
    # Up to the last product, that is: what is behind it is float32 anyway.
    same = ops.constant(np.eye(12, dtype=np.float32).reshape(12, 12, 1, 1))
    product = ops.convolution(codes, same, [1, 1], [0, 0], [0, 0], [1, 1])
    model = openvino.Model([product], [source])
    begin_behind_moves(model)
    assert list(model.input().shape) == [1, 12, 2, 3]
    assert "Transpose" not in _types(model)
    wanted = 180 + torch.arange(72.0).reshape(1, 12, 2, 3)
    # Bf16 has steps of half a code to a whole one here.
    x = (wanted + 0.45) / 255 * torch.from_numpy(tops)
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    found = torch.from_numpy(compiled([x.numpy()])[0].copy())
    assert torch.equal(found, wanted)


def test_graphs_that_begin_with_arithmetic_stay() -> None:
    source = ops.parameter([1, 8, 6], np.float32)
    model = openvino.Model([ops.reshape(ops.relu(source), [8, 6], False)], [source])
    before = _types(model)
    begin_behind_moves(model)
    assert _types(model) == before
