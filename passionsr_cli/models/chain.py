"""Chains of components, and the layers that read concatenated inputs."""

from __future__ import annotations

from typing import cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from passionsr_cli.models.components import DECODER, ENCODER, UNET
from passionsr_cli.models.one_step import OneStepModel


class Chain(nn.Module):
    """Components run one after the other, callable as one module.

    A chain that starts with the encoder takes upscaled LR images (B, 3, H, W), with the UNet
    z_L, with the decoder z_H; it returns what its last component makes: z_L, z_H or the image.
    With `to_noise` the UNet's ε takes the place of z_H. A dial stands at the model's default; with
    `each_head` both its ends are made instead, as one batch, the faithful images first.
    """

    def __init__(
        self,
        model: OneStepModel,
        components: tuple[str, ...],
        to_noise: bool = False,
        each_head: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.components = model, components
        self.to_noise, self.each_head = to_noise, each_head

    def forward(self, x: Tensor) -> Tensor:
        steps = {ENCODER: self.model.encode, UNET: self._restore, DECODER: self.model.decode}
        for component in self.components:
            x = steps[component](x)
        return x.float()

    def _restore(self, latent: Tensor) -> Tensor:
        if self.each_head:
            heads = self.model.predict_heads(latent).chunk(self.model.description.heads, dim=1)
            return torch.cat([self.model.to_x0(latent, head) for head in heads])
        noise = self.model.predict(latent)
        return noise if self.to_noise else self.model.to_x0(latent, noise)


def concatenations(model: OneStepModel) -> dict[str, int]:
    """Layers that read two concatenated tensors: the channel at which the second one begins.

    In the UNet's up blocks, each residual block reads what comes from below and then a skip.
    """
    boundaries = {}
    for unet_name, unet in model.unets.items():
        width = _resnets(unet.mid_block)[-1].out_channels
        for number, block in enumerate(unet.up_blocks):
            for index, resnet in enumerate(_resnets(block)):
                name = f"{unet_name}.up_blocks.{number}.resnets.{index}"
                boundaries[f"{name}.conv1"] = width
                if resnet.conv_shortcut is not None:
                    boundaries[f"{name}.conv_shortcut"] = width
                width = resnet.out_channels
    return boundaries


def _resnets(block: nn.Module) -> list[ResnetBlock2D]:
    return list(cast("nn.ModuleList", block.resnets))  # type: ignore[arg-type]
