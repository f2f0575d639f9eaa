"""Every width of integers on every kind of layer, against float64, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from integers import WEIGHTS, frozen, input_on_every_level, layers_of_all_kinds, reference
from torch import Tensor, nn

from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.layers.products import Convolution
from passionsr_cli.quantization.schemes import LayerPlan, Scheme

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")

from passionsr_cli.triton_kernels.launching import quantize
from passionsr_cli.triton_kernels.layers import IntegerLayer, obstacle


def _convolution(bits: int, symmetric: bool, shifts: bool = True) -> FrozenLayer:
    plan = LayerPlan(Scheme(4, False, 0), Scheme(bits, symmetric), True, shifts)
    return frozen(LearningLayer(nn.Conv2d(5, 6, 3, padding=(1, 2)), plan), (2, 5, 9, 8))


def _codes(layer: FrozenLayer, x: Tensor) -> Tensor:
    """Codes (B, H', W', C) with their border, less the zero point, of float64 before rounding."""
    assert layer.input_grid is not None
    assert layer.channel_scale is not None
    assert isinstance(layer.product, Convolution)
    vertical, horizontal = layer.product.padding
    x = F.pad(x.double(), (horizontal, horizontal, vertical, vertical)).permute(0, 2, 3, 1)
    shift = 0.0 if layer.channel_shift is None else layer.channel_shift.double()
    steps = (x - shift) / layer.channel_scale.double() / layer.input_grid.scale.double()
    low, high = layer.input_grid.scheme.quant_min, layer.input_grid.scheme.quant_max
    zero_point = layer.input_grid.zero_point.double()
    return steps.clamp(low - zero_point, high - zero_point)


@pytest.mark.parametrize("shifts", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
@torch.no_grad()
def test_codes_are_those_of_float64(bits: int, symmetric: bool, shifts: bool) -> None:
    layer = _convolution(bits, symmetric, shifts)
    integer = IntegerLayer(layer)
    for x in (input_on_every_level(layer, (2, 5, 9, 8)), torch.randn(1, 5, 3, 7)):
        steps = _codes(layer, x)
        codes = quantize(x.permute(0, 2, 3, 1), integer.grid, integer.border)
        assert codes.shape == (*steps.shape[:3], 32)
        found = codes[..., :5].double() - integer.grid.zero_point
        # A value midway between two integers may go either way.
        tie = ((steps - steps.floor()) - 0.5).abs() < 1e-4
        assert float(tie.double().mean()) < 0.01
        assert torch.equal(found[~tie], steps.round()[~tie])
        # What fills the channels up is zero, and so is the border where nothing is shifted.
        assert codes[..., 5:].eq(integer.grid.zero_point).all()
        if not shifts:
            assert found[:, 0].eq(0).all()
            assert found[:, :, :2].eq(0).all()


@pytest.mark.parametrize("weight", WEIGHTS)
@torch.no_grad()
def test_layers_compute_what_their_integers_say(weight: tuple[int, bool]) -> None:
    bits, symmetric = weight
    # Every width of the input meets every kind of layer somewhere.
    for number, (learning, shape) in enumerate(
        layers_of_all_kinds(Scheme(*weight, 0), Scheme(2 + (bits + 3 * symmetric) % 7, symmetric))
    ):
        layer = frozen(learning, shape)
        x = input_on_every_level(layer, shape)
        wanted = reference(layer, x)
        assert obstacle(layer) == ""
        integer = IntegerLayer(layer)
        # Up to 4 bits two codes share a byte.
        assert integer.weight.dtype == (torch.uint8 if bits <= 4 else torch.int8)
        found = integer(x)
        assert found.dtype == torch.float32
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() < 1e-6 * wanted.abs().max(), f"layer {number}"


@torch.no_grad()
def test_results_have_the_type_of_autocast() -> None:
    layer = _convolution(8, False)
    x = input_on_every_level(layer, (2, 5, 9, 8))
    integer = IntegerLayer(layer)
    with torch.autocast(x.device.type, torch.bfloat16):
        found = integer(x)
    assert found.dtype == torch.bfloat16
    exact = integer(x)
    # Triton's interpreter cuts what GPUs round to the nearest.
    assert ((found - exact).abs() <= 2**-7 * exact.abs()).all()


@torch.no_grad()
def test_branches_are_added() -> None:
    plan = LayerPlan(Scheme(4, False, 0), Scheme(8), channel_scale=True, rank=4)
    for learning, shape in (
        (LearningLayer(nn.Conv2d(7, 6, 3, stride=2, padding=1), plan), (2, 7, 9, 8)),
        (LearningLayer(nn.Linear(7, 6), plan), (2, 5, 7)),
    ):
        learning.start_branch()
        layer = frozen(learning, shape)
        x = input_on_every_level(layer, shape)
        assert layer.branch is not None
        branch = layer.product.branch(x, *layer.branch).double()
        wanted = reference(layer, x) + branch
        assert branch.abs().max() > 0.01 * wanted.abs().max()
        assert (IntegerLayer(layer)(x) - wanted).abs().max() < 1e-6 * wanted.abs().max()


@pytest.mark.parametrize(
    ("plan", "layer", "reason"),
    [
        (LayerPlan(None, Scheme(8)), nn.Linear(5, 6), "weight is in floating point"),
        (LayerPlan(Scheme(8, True, 0), None), nn.Linear(5, 6), "input is in floating point"),
        (LayerPlan(Scheme(8, False, 0), Scheme(8)), nn.Linear(5, 6), "asymmetric 8-bit weights"),
        (
            LayerPlan(Scheme(8, True, 0), Scheme(8)),
            nn.Conv2d(5, 6, 3, dilation=2),
            "dilated convolutions",
        ),
        (LayerPlan(Scheme(8, True, 0), Scheme(8)), nn.Linear(70_000, 1), "exceed 32 bits"),
    ],
)
def test_other_layers_have_a_reason(
    plan: LayerPlan, layer: nn.Module, reason: str, device: torch.device
) -> None:
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    layer = layer.to(device)
    with torch.no_grad():
        # Of one sign, so that zero is at an end of an asymmetric grid.
        layer.weight.abs_()
    shape = (1, 5, 9, 9) if isinstance(layer, nn.Conv2d) else (1, layer.in_features)
    assert reason in obstacle(frozen(LearningLayer(layer, plan), shape))
