"""Residual blocks in few passes: norm, activation and codes in one, the sum in the product."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from passionsr_cli.triton_kernels.layers import IntegerLayer
from passionsr_cli.triton_kernels.normalization import normalization


class IntegerResnet(nn.Module):
    """Residual block whose convolutions are integer kernels, in the place of diffusers' own.

    x + conv2(SiLU(norm2(conv1(SiLU(norm1(x))) + temb))), with a shortcut where widths differ.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.nonlinearity = block.nonlinearity
        self.time_emb_proj = block.time_emb_proj
        self.conv_shortcut = block.conv_shortcut

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        image = x.permute(0, 2, 3, 1)
        hidden = self.conv1.product_of(image, None, normalization(self.norm1, image))
        moved = None
        if temb is not None and self.time_emb_proj is not None:
            moved = self.time_emb_proj(self.nonlinearity(temb))
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(x)
        behind = normalization(self.norm2, hidden, moved)
        result: Tensor = self.conv2.product_of(hidden, shortcut.permute(0, 2, 3, 1), behind)
        return result.permute(0, 3, 1, 2)


def fuse_resnets(model: nn.Module) -> None:
    """Replace the residual blocks of a model, whose layers are kernels already, in place."""
    from diffusers.models.resnet import ResnetBlock2D

    for name, block in list(model.named_modules()):
        if isinstance(block, ResnetBlock2D) and _is_plain(block):
            model.set_submodule(name, IntegerResnet(block))


def _is_plain(block: Any) -> bool:
    """Tell whether a block is what `IntegerResnet` computes: a branch would see what is normalized,
    which is nowhere."""
    # A VAE's decoder calls "group" what has no timestep.
    norms = ("default", "group")
    convolutions = (block.conv1, block.conv2)
    return (
        all(isinstance(x, IntegerLayer) and x.branch_down is None for x in convolutions)
        and isinstance(block.nonlinearity, nn.SiLU)
        and block.time_embedding_norm in norms
        and not block.skip_time_act
        and block.upsample is None
        and block.downsample is None
        and block.output_scale_factor == 1
    )
