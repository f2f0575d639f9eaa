"""Attention on codes against float64, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention
from integers import frozen
from torch import Tensor, nn

from passionsr_cli.layers.frozen import FrozenAttention
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.quantization.affine import Grid, grid_between, quantize
from passionsr_cli.quantization.schemes import AttentionPlan, LayerPlan, Scheme

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")

from passionsr_cli.triton_kernels.attention import IntegerAttention, attention_obstacle
from passionsr_cli.triton_kernels.layers import IntegerLayer

# Shares whose code is so near to midway between two that the last bits of a float decide.
TIE = 2e-3


def _grids(bits: int, query: Tensor, key: Tensor, largest_share: float = 1.0) -> dict[str, Grid]:
    """Grids that clip a little, with zero points wherever there may be one."""
    bounds = {
        "query": (-1.0, 0.9 * query.abs().max()),
        "key": (-1.0, 0.9 * key.abs().max()),
        "probability": (-0.1 * largest_share, 0.9 * largest_share),
        "value": (-1.3, 2.1),
    }
    schemes = AttentionPlan(Scheme(bits)).operands
    return {
        name: grid_between(*map(torch.as_tensor, bounds[name]), schemes[name]) for name in bounds
    }


def _integers(x: Tensor, grid: Grid) -> Tensor:
    return quantize(x, grid).double() - grid.zero_point.double()


def _shares(query: Tensor, key: Tensor, grids: dict[str, Grid], factor: float) -> Tensor:
    """Softmax of (…, N, d) and (…, M, d) in steps of its grid, by float64 of their integers."""
    products = _integers(query, grids["query"]) @ _integers(key, grids["key"]).transpose(-1, -2)
    step = grids["query"].scale.double() * grids["key"].scale.double()
    shares = torch.softmax(products * step * factor, -1) / grids["probability"].scale.double()
    grid = grids["probability"]
    low, high = grid.scheme.quant_min - grid.zero_point, grid.scheme.quant_max - grid.zero_point
    return shares.clamp(low, high)


def _apart(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


class _Projections(nn.Module):
    """An attention of diffusers' whose projections are identities."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.to_q = self.to_k = self.to_v = nn.Identity()
        self.to_out = nn.ModuleList([nn.Identity()])
        self.scale = scale


def _products(
    attention: FrozenAttention, query: Tensor, key: Tensor, value: Tensor, factor: float
) -> Tensor:
    """What the kernels make of (B, N, C), (B, M, C) twice."""
    projections, integer = _Projections(factor), IntegerAttention(attention, query.shape[2])
    projections.to_k, projections.to_v = nn.Identity(), _Other(value)
    return integer.attend(projections, query, key)


class _Other(nn.Module):
    """A projection to what it is told."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: Tensor) -> Tensor:
        return self.values


@pytest.mark.parametrize("bits", range(2, 9))
@torch.no_grad()
def test_codes_of_the_softmax_are_those_of_float64(bits: int) -> None:
    """Values that are one for one key and zero for all others show the codes themselves."""
    tokens, keys, channels = 70, 77, 90
    query, key = torch.randn(1, tokens, channels), torch.randn(1, keys, channels)
    grids = _grids(bits, query, key, largest_share=0.2)
    step = grids["value"].scale
    value = torch.eye(channels)[None, :keys] * step
    found = _products(FrozenAttention(1, None, grids), query, key, value, 0.15)[0, :, :keys]
    found = (found / (grids["probability"].scale * step)).double()
    shares = _shares(query, key, grids, 0.15)[0]
    tie = ((shares - shares.floor()) - 0.5).abs() < TIE
    assert float(tie.double().mean()) < 0.01
    assert (found - found.round()).abs().max() < 1e-3
    assert torch.equal(found.round()[~tie], shares.round()[~tie])
    assert len(shares.round().unique()) > min(2**bits, 30) // 2


@pytest.mark.parametrize(
    ("heads", "shape", "keys"),
    [(1, (2, 35, 32), 35), (3, (2, 17, 15), 130), (2, (1, 65, 256), 33), (1, (1, 5, 8), 1)],
)
@pytest.mark.parametrize("bits", [4, 8])
@torch.no_grad()
def test_products_are_those_of_float64(
    bits: int, heads: int, shape: tuple[int, int, int], keys: int
) -> None:
    """Odd numbers of tokens, keys and channels, several heads and images, a scale per channel."""
    batch, _, channels = shape
    scale = torch.exp(torch.randn(channels) * 0.3)
    query, key = torch.randn(shape), torch.randn(batch, keys, channels)
    value = torch.randn(batch, keys, channels)
    grids = _grids(bits, query, key)
    # Rounded before the kernels see them, so that no value of these lies midway.
    query, key = (
        _integers(each, grids[name]).float() * grids[name].scale
        for each, name in ((query, "query"), (key, "key"))
    )
    shares = _shares(_apart(query, heads), _apart(key, heads), grids, 0.3)
    tie = ((shares - shares.floor()) - 0.5).abs() < TIE
    values = _apart(_integers(value, grids["value"]), heads)
    wanted = (shares.round() @ values).transpose(1, 2).flatten(2)
    either = (tie.double() @ values.abs()).transpose(1, 2).flatten(2)
    attention = FrozenAttention(heads, scale, grids)
    found = _products(attention, query * scale, key / scale, value, 0.3).double()
    found /= grids["probability"].scale.double() * grids["value"].scale.double()
    assert found.shape == wanted.shape
    assert ((found - wanted).abs() <= either + 1e-6 * wanted.abs().max()).all()
    assert wanted.abs().max() > 1


def _attention(bits: int, context_channels: int | None) -> tuple[Attention, FrozenAttention]:
    layer = Attention(12, context_channels, heads=2, dim_head=6).eval().requires_grad_(False)
    plan = LayerPlan(Scheme(bits, True, 0), Scheme(bits))
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        linear = layer.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        layer.set_submodule(name, frozen(LearningLayer(linear, plan), (2, 9, linear.in_features)))
    q, k = torch.randn(2, 9, 12), torch.randn(2, 9, 12)
    return layer, FrozenAttention(2, torch.rand(12) + 0.5, _grids(bits, q, k))


@pytest.mark.parametrize("context_channels", [None, 7])
@pytest.mark.parametrize("branch", [False, True])
@torch.no_grad()
def test_projections_hand_over_codes(context_channels: int | None, branch: bool) -> None:
    """Eight bits: what a code midway between two is worth is little."""
    layer, attention = _attention(8, context_channels)
    context = None if context_channels is None else torch.randn(2, 5, context_channels)
    x = torch.randn(2, 9, 12)
    layer.set_processor(attention)
    if branch:
        for name in ("to_v", "to_out.0"):
            projection = layer.get_submodule(name)
            channels = projection.weight.shape[1]
            projection.branch_down = torch.randn(2, channels).bfloat16()
            projection.branch_up = torch.randn(12, 2).bfloat16()
    wanted = layer(x, context)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        layer.set_submodule(name, IntegerLayer(layer.get_submodule(name)))
    layer.set_processor(IntegerAttention(attention, 12))
    found = layer(x, context)
    assert found.dtype == wanted.dtype
    assert (found - wanted).square().mean() < 1e-4 * wanted.var()
    with torch.autocast(x.device.type, torch.bfloat16):
        assert layer(x, context).dtype == torch.bfloat16


def test_an_attention_whose_sums_may_overflow_has_a_reason() -> None:
    one = torch.ones(1)
    grids = _grids(8, one, one)
    assert attention_obstacle(FrozenAttention(1, None, grids)) == ""
    grids = _grids(8, one, one, largest_share=1e-5)
    assert "exceed 32 bits" in attention_obstacle(FrozenAttention(1, None, grids))
