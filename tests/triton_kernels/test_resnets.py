from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from integers import frozen, random_norm
from torch import Tensor, nn

from passionsr_cli.layers.learning import LearningLayer
from passionsr_cli.quantization.schemes import LayerPlan, Scheme

pytest.importorskip("triton", reason="Triton comes with torch for CUDA, on Linux")

from passionsr_cli.triton_kernels.launching import Normalization, quantize
from passionsr_cli.triton_kernels.layers import IntegerLayer
from passionsr_cli.triton_kernels.normalization import normalization
from passionsr_cli.triton_kernels.resnets import IntegerResnet, fuse_resnets


def _normalized(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    norm = norm.double()
    values: Tensor = F.silu(norm(x.double()))
    norm.float()
    return values


@pytest.mark.parametrize("shape", [(2, 6, 5, 7), (1, 40, 17, 19)])
@torch.no_grad()
def test_a_normalization_is_part_of_the_quantizer(shape: tuple[int, ...]) -> None:
    """Far from zero, where E[x²] − E[x]² in float32 would have lost the variance."""
    norm, moved = random_norm(2, shape[1]), torch.randn(shape[:2])
    x = torch.randn(shape) + 1000
    plan = LayerPlan(Scheme(8, True, 0), Scheme(8), True, True)
    layer = IntegerLayer(frozen(LearningLayer(nn.Conv2d(shape[1], 4, 3, padding=1), plan), shape))
    wanted = _normalized(norm, x + moved[:, :, None, None].double())
    found = normalization(norm, x.permute(0, 2, 3, 1), moved)
    assert isinstance(found, Normalization)
    codes = quantize(x.permute(0, 2, 3, 1), layer.grid, layer.border, found)
    inner = F.pad(wanted, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    steps = inner * layer.factor.double() + layer.offset.double()
    grid = layer.grid
    steps = steps.clamp(grid.quant_min - grid.zero_point, grid.quant_max - grid.zero_point)
    near = ((steps - steps.floor()) - 0.5).abs() < 0.02
    difference = codes[..., : shape[1]].double() - grid.zero_point - steps.round()
    assert difference[~near].eq(0).all()
    assert difference.abs().max() <= 1


def _block(temb_channels: int | None = 8, **options: object) -> ResnetBlock2D:
    block = ResnetBlock2D(
        in_channels=6, out_channels=10, temb_channels=temb_channels, groups=2, **options
    )
    plan = LayerPlan(Scheme(8, True, 0), Scheme(8))
    for name in ("conv1", "conv2", "conv_shortcut"):
        layer = block.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        shape = (1, layer.in_channels, 9, 7)
        block.set_submodule(name, IntegerLayer(frozen(LearningLayer(layer, plan), shape)))
    return block.eval().requires_grad_(False)


@torch.no_grad()
def test_a_block_computes_what_its_layers_do() -> None:
    x, temb = torch.randn(2, 6, 9, 7), torch.randn(2, 8)
    blocks = {
        "timed": _block(),
        "of a VAE's decoder": _block(None, time_embedding_norm="group"),
        "scaled": _block(output_scale_factor=2.0),
        "moved and scaled": _block(time_embedding_norm="scale_shift"),
    }
    model = nn.ModuleDict(blocks)
    wanted = {name: block(x, temb) for name, block in blocks.items()}
    fuse_resnets(model)
    fused = [name for name, block in model.items() if isinstance(block, IntegerResnet)]
    assert fused == ["timed", "of a VAE's decoder"]
    for name, block in model.items():
        # A code midway between two integers may go either way.
        error = (block(x, temb) - wanted[name]).square().mean()
        assert error < 1e-5 * wanted[name].square().mean(), name
