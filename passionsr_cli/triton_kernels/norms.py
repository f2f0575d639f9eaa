"""Group normalizations of a model: part of a last convolution, or a pass of their own.

torch's own has one program for each group, which keeps a GPU idle where groups are few and large.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from passionsr_cli.triton_kernels.layers import IntegerLayer
from passionsr_cli.triton_kernels.normalization import normalization, normalized
from passionsr_cli.triton_kernels.resnets import IntegerResnet


class ChannelsLastNorm(nn.Module):
    """A group normalization of (B, C, …) that lies channels last, float32 as torch's is under
    autocast."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        image = last.reshape(len(x), 1, -1, x.shape[1])
        return normalized(self.norm, image).reshape(last.shape).movedim(-1, 1)


class NormalizedConvolution(nn.Module):
    """A convolution of SiLU(norm(x)), both of which are part of its quantizer."""

    def __init__(self, norm: nn.GroupNorm, convolution: IntegerLayer) -> None:
        super().__init__()
        self.norm, self.convolution = norm, convolution

    def forward(self, x: Tensor) -> Tensor:
        image = x.permute(0, 2, 3, 1)
        result = self.convolution.product_of(image, None, normalization(self.norm, image))
        return result.permute(0, 3, 1, 2)


def fuse_norms(model: nn.Module) -> None:
    """Replace the group normalizations of a model, whose layers are kernels already, in place.

    Those of an `IntegerResnet` are part of it.
    """
    for module in list(model.modules()):
        if _ends_normalized(module):
            part: Any = module
            part.conv_out = NormalizedConvolution(part.conv_norm_out, part.conv_out)
            part.conv_norm_out = part.conv_act = nn.Identity()
    for name, norm in list(model.named_modules()):
        owner = model.get_submodule(name.rpartition(".")[0])
        apart = not isinstance(owner, (IntegerResnet, NormalizedConvolution))
        if isinstance(norm, nn.GroupNorm) and norm.affine and apart:
            model.set_submodule(name, ChannelsLastNorm(norm))


def _ends_normalized(module: Any) -> bool:
    """Tell whether a part ends in norm, SiLU and a convolution that is a kernel, as diffusers'
    do."""
    convolution = getattr(module, "conv_out", None)
    norm = getattr(module, "conv_norm_out", None)
    return (
        isinstance(convolution, IntegerLayer)
        and convolution.branch_down is None
        and isinstance(norm, nn.GroupNorm)
        and norm.affine
        and isinstance(getattr(module, "conv_act", None), nn.SiLU)
    )
