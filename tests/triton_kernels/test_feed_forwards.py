from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from integers import frozen, input_on_every_level, reference
from torch import Tensor, nn

from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.quantization.schemes import LayerPlan, Scheme

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")

from passionsr_cli.triton_kernels.feed_forwards import IntegerFeedForward, fuse_feed_forwards
from passionsr_cli.triton_kernels.layers import IntegerLayer


def _layer(weight: Scheme, channels: int, outputs: int, branch: bool = False) -> FrozenLayer:
    plan = LayerPlan(weight, Scheme(8), True, True, rank=2 if branch else 0)
    learning = LearningLayer(nn.Linear(channels, outputs), plan)
    if branch:
        learning.start_branch()
    return frozen(learning, (2, 7, channels))


def _gated(layer: FrozenLayer, x: Tensor) -> Tensor:
    """v · GELU(g) in float64."""
    result = reference(layer, x)
    if layer.branch is not None:
        result = result + layer.product.branch(x, *layer.branch).double()
    value, gate = result.chunk(2, -1)
    return value * F.gelu(gate)


# Inner channels that fill no block, and that fill several.
@pytest.mark.parametrize("inner", [5, 96])
@pytest.mark.parametrize("bits", range(2, 9))
@torch.no_grad()
def test_gates_are_those_of_float64(bits: int, inner: int) -> None:
    layer = _layer(Scheme(bits, bits == 8, 0), 7, 2 * inner, branch=bits % 2 == 0)
    behind = IntegerLayer(_layer(Scheme(8, True, 0), inner, 4))
    x = input_on_every_level(layer, (2, 7, 7))
    integer, wanted = IntegerLayer(layer), _gated(layer, x)
    integer.gate()
    found = integer(x)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 2e-6 * wanted.abs().max()
    # The same as codes of what is behind: but for values midway between two integers.
    grid = behind.grid
    steps = wanted.flatten(0, 1) * grid.factor.double() + grid.offset.double()
    steps = steps.clamp(grid.quant_min - grid.zero_point, grid.quant_max - grid.zero_point)
    codes = integer.codes_of(x, grid)[:, :inner].double() - grid.zero_point
    tie = ((steps - steps.floor()) - 0.5).abs() < 1e-4
    assert float(tie.double().mean()) < 0.1
    assert torch.equal(codes[~tie], steps.round()[~tie])


def _block(second: bool = True, activation: str = "geglu") -> FeedForward:
    block = FeedForward(6, inner_dim=20, activation_fn=activation).eval().requires_grad_(False)
    weight = Scheme(8, True, 0)
    block.net[0].proj = IntegerLayer(_layer(weight, 6, block.net[0].proj.out_features))
    if second:
        block.net[2] = IntegerLayer(_layer(weight, 20, 6))
    return block


@torch.no_grad()
def test_blocks_compute_what_their_layers_do() -> None:
    branched = _block()
    branched.net[2] = IntegerLayer(_layer(Scheme(8, True, 0), 20, 6, branch=True))
    model = nn.ModuleDict({"plain": _block(), "branched": branched})
    others = nn.ModuleDict({"one": _block(second=False), "ungated": _block(activation="gelu")})
    x = torch.randn(2, 7, 6)
    wanted = {name: block(x) for name, block in model.items()}
    for blocks in (model, others):
        fuse_feed_forwards(blocks)
    assert all(isinstance(block, FeedForward) for block in others.values())
    for name, block in model.items():
        assert isinstance(block, IntegerFeedForward)
        found = block(x)
        assert found.shape == wanted[name].shape
        # A code midway between two integers may go either way.
        assert (found - wanted[name]).square().mean() < 1e-5 * wanted[name].square().mean()
