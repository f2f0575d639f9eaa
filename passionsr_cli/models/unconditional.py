"""Stable Diffusion's UNet without what tells it a timestep and a prompt (AdcSR, arXiv 2411.13383).

A one-step model has but one timestep and one prompt, so that AdcSR goes without the embedding of
the former and the cross-attention to the latter, and at three quarters of the width.
"""

from __future__ import annotations

from typing import Any

from torch import nn

# The first of these that divides a layer's channels is the number of its groups: what 32 leaves of
# a narrower Stable Diffusion is not always divisible by 32.
GROUPS = (32, 24, 16, 12, 8, 6, 4, 2, 1)


def no_embedding(*inputs: object) -> None:
    """No embedding in place of that of a timestep."""


def unconditional_unet(**settings: Any) -> Any:
    """A `UNet2DConditionModel` without time embedding and cross-attention.

    `settings` are its keyword arguments but for the width of a context. It takes a timestep and a
    context, as others do, and reads neither.
    """
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet = UNet2DConditionModel(**settings, cross_attention_dim=1, norm_num_groups=1)
    # No module: tracing takes none that return nothing.
    del unet.time_embedding
    unet.time_embedding = no_embedding
    lacking = ((ResnetBlock2D, ("time_emb_proj",)), (BasicTransformerBlock, ("attn2", "norm2")))
    for module in unet.modules():
        for kind, names in lacking:
            if isinstance(module, kind):
                module._modules.update(dict.fromkeys(names))
        if isinstance(module, nn.GroupNorm):
            module.num_groups = next(n for n in GROUPS if module.num_channels % n == 0)
    return unet
