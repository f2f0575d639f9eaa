from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from passionsr_cli.layers.learning_attention import LearningAttention
from passionsr_cli.quantization.schemes import AttentionPlan, GridFitting, Scheme, State


def _attention(kind: str) -> tuple[Attention, Tensor, Tensor | None]:
    torch.manual_seed(0)
    if kind == "image":
        attention = Attention(
            8, heads=2, dim_head=4, norm_num_groups=2, bias=True, residual_connection=True
        )
        return attention.eval(), torch.randn(2, 8, 5, 6), None
    context = torch.randn(2, 3, 7) if kind == "cross" else None
    attention = Attention(8, None if context is None else 7, heads=2, dim_head=4)
    return attention.eval(), torch.randn(2, 12, 8), context


def _quantized(attention: Attention, bits: int, scales: bool = True) -> LearningAttention:
    processor = LearningAttention(8, 2, AttentionPlan(Scheme(bits), scales))
    attention.set_processor(processor)  # type: ignore[arg-type]
    return processor


@pytest.mark.parametrize("kind", ["self", "cross", "image"])
@torch.no_grad()
def test_it_computes_what_diffusers_does(kind: str) -> None:
    attention, x, context = _attention(kind)
    expected = attention(x, context)
    processor = _quantized(attention, 8)
    for state in (State.FLOAT, State.OBSERVING):
        processor.state = state
        torch.testing.assert_close(attention(x, context), expected, rtol=1e-5, atol=1e-5)
    processor.start_transform(0.5)
    processor.start_bounds()
    processor.state = State.QUANTIZING
    error = (attention(x, context) - expected).square().mean() / expected.square().mean()
    assert error < 1e-3
    coarse = _quantized(attention, 2)
    coarse.state = State.OBSERVING
    attention(x, context)
    coarse.start_bounds()
    coarse.state = State.QUANTIZING
    rough = (attention(x, context) - expected).square().mean() / expected.square().mean()
    assert rough > 3 * error


@torch.no_grad()
def test_the_products_are_those_of_integers() -> None:
    """Softmax of whole-number products, in float64, written from the formulas."""
    attention, x, _ = _attention("self")
    processor = _quantized(attention, 6)
    processor.state = State.OBSERVING
    attention(x)
    processor.start_transform(0.5)
    for observer in processor.tensor_observers.values():
        observer.forget()
    attention(x)
    processor.start_bounds()
    frozen = processor.freeze()
    assert frozen.channel_scale is not None

    def rounded(name: str, values: Tensor) -> Tensor:
        grid = frozen.grids[name]
        low, high = grid.scheme.quant_min, grid.scheme.quant_max
        codes = (values / grid.scale.double()).round() + grid.zero_point.double()
        return (codes.clamp(low, high) - grid.zero_point.double()) * grid.scale.double()

    q, k, v = (
        projection(x).double().reshape(2, 12, 2, 4).transpose(1, 2)
        for projection in (attention.to_q, attention.to_k, attention.to_v)
    )
    scale = frozen.channel_scale.double().reshape(2, 1, 4)
    scores = rounded("query", q / scale) @ rounded("key", k * scale).transpose(-1, -2) / 2
    expected = rounded("probability", scores.softmax(-1)) @ rounded("value", v)
    found = frozen.products(attention.to_q(x), attention.to_k(x), attention.to_v(x), 0.5)
    torch.testing.assert_close(
        found.double(), expected.transpose(1, 2).flatten(2), rtol=1e-3, atol=1e-4
    )
    assert frozen.grids["query"].scheme.symmetric
    assert frozen.grids["key"].scheme.symmetric


@torch.no_grad()
def test_without_rounding_head_scales_change_nothing() -> None:
    attention, x, _ = _attention("self")
    expected = attention(x)
    processor = _quantized(attention, 8)
    processor.state = State.OBSERVING
    assert processor.transform is not None
    processor.transform.log_scale.normal_()
    torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_scales_from_deviations_make_q_and_k_deviate_alike() -> None:
    attention, x, context = _attention("cross")
    plan = AttentionPlan(Scheme(8), True, scale_start="deviations", fitting=GridFitting("mse"))
    processor = LearningAttention(8, 2, plan)
    expected = attention(x, context)
    attention.set_processor(processor)  # type: ignore[arg-type]
    processor.state = State.OBSERVING
    attention(x, context)
    processor.start_transform(0.5)
    assert processor.transform is not None
    scale = processor.transform.scale()
    query, key = attention.to_q(x) / scale, attention.to_k(context) * scale
    deviations = [values.flatten(0, 1).std(0, unbiased=False) for values in (query, key)]
    torch.testing.assert_close(*deviations)
    for observer in processor.observers().values():
        observer.forget()
    attention(x, context)
    processor.start_bounds()
    processor.state = State.QUANTIZING
    error = (attention(x, context) - expected).square().mean() / expected.square().mean()
    assert error < 1e-3
