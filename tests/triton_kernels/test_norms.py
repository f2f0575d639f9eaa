"""Group normalizations against float64, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from integers import frozen, random_norm
from torch import Tensor, nn

from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.quantization.schemes import LayerPlan, Scheme

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")

from passionsr_cli.triton_kernels import normalization
from passionsr_cli.triton_kernels.layers import IntegerLayer
from passionsr_cli.triton_kernels.norms import ChannelsLastNorm, NormalizedConvolution, fuse_norms
from passionsr_cli.triton_kernels.resnets import fuse_resnets


@pytest.mark.parametrize("parts", [3, normalization.MOST_PARTS])
@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 6, 23, 57), 1), ((1, 136, 9, 30), 8), ((2, 40, 77), 2)]
)
def test_a_norm_is_that_of_float64(
    shape: tuple[int, ...], groups: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far from zero, in several parts of several blocks each, the last one not full."""
    monkeypatch.setattr(normalization, "MOST_PARTS", parts)
    norm, x = random_norm(groups, shape[1]), torch.randn(shape) * 3 + 200
    wanted = F.group_norm(x.double(), groups, norm.weight.double(), norm.bias.double(), norm.eps)
    found = ChannelsLastNorm(norm)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=3e-4, rtol=1e-4)


class _Part(nn.Module):
    """Of diffusers' models: a residual block, another norm, and an end."""

    def __init__(self, act: Callable[[], nn.Module], quantizes: bool) -> None:
        super().__init__()
        plan = LayerPlan(Scheme(8, True, 0), Scheme(8))

        def on_integers(layer: nn.Module, *shape: int) -> nn.Module:
            return IntegerLayer(frozen(LearningLayer(layer, plan), shape))

        block = ResnetBlock2D(in_channels=6, out_channels=6, temb_channels=None, groups=2)
        block.conv1 = on_integers(block.conv1, 2, 6, 5, 7)
        block.conv2 = on_integers(block.conv2, 2, 6, 5, 7)
        self.block, self.norm = block, random_norm(3, 6)
        self.conv_norm_out, self.conv_act = random_norm(2, 6), act()
        last = nn.Conv2d(6, 4, 3, padding=1).requires_grad_(False)
        self.conv_out = on_integers(last, 2, 6, 5, 7) if quantizes else last

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.block(x, None))
        result: Tensor = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        return result


@pytest.mark.parametrize("fused", [True, False])
@torch.no_grad()
def test_a_model_computes_what_it_did(fused: bool) -> None:
    """A last convolution on integers takes its norm, one in floating point does not."""
    model, x = _Part(nn.SiLU, quantizes=fused), torch.randn(2, 6, 5, 7)
    wanted = model(x)
    fuse_resnets(model)
    fuse_norms(model)
    assert isinstance(model.conv_out, NormalizedConvolution) == fused
    kinds = [type(module) for module in model.modules()]
    # Two in the residual block, and what is part of another module.
    assert kinds.count(nn.GroupNorm) == 4
    assert kinds.count(ChannelsLastNorm) == (1 if fused else 2)
    error = (model(x) - wanted).square().mean()
    # A code midway between two integers may go either way.
    assert error < 1e-4 * wanted.square().mean()


@torch.no_grad()
def test_another_activation_stays_apart() -> None:
    model = _Part(nn.GELU, quantizes=True)
    fuse_norms(model)
    assert isinstance(model.conv_out, IntegerLayer)
    assert isinstance(model.conv_act, nn.GELU)
