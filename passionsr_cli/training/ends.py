"""The two ends of a model with a realism dial, as images, for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from passionsr_cli.models.one_step import OneStepModel


class Ends(nn.Module):
    """A model that returns its faithful image and, if asked, its natural one.

    A module of its own, so that accelerate can wrap it. A model without a dial has one end, which
    is both.
    """

    def __init__(self, model: OneStepModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, upscaled: Tensor, natural: bool) -> tuple[Tensor, Tensor | None]:
        """Images (B, 3, H, W), not clamped, of upscaled LR images of the same size."""
        model = self.model
        latent = model.encode(upscaled)
        heads = model.predict_heads(latent).chunk(model.description.heads, 1)
        if not natural:
            return model.decode(model.to_x0(latent, heads[0])), None
        if len(heads) == 1:
            image = model.decode(model.to_x0(latent, heads[0]))
            return image, image
        restored = torch.cat([model.to_x0(latent, head) for head in heads])
        faithful, realistic = model.decode(restored).chunk(2)
        return faithful, realistic


@contextmanager
def silent_blocks_skipped(model: OneStepModel, learned: Sequence[nn.Parameter]) -> Iterator[None]:
    """Do not compute residual blocks that add exactly nothing and do not learn.

    The decoder starts with silent blocks: while the UNet learns alone they would take a third of
    the time to pass on what they are given.
    """
    learning = {id(parameter) for parameter in learned}
    blocks = [
        block
        for block in model.modules()
        if isinstance(block, ResnetBlock2D)
        and _is_silent(block)
        and not any(id(parameter) in learning for parameter in block.parameters())
    ]
    for block in blocks:
        vars(block)["forward"] = _pass_on
    try:
        yield
    finally:
        for block in blocks:
            del vars(block)["forward"]


def _pass_on(x: Tensor, temb: Tensor | None = None) -> Tensor:
    return x


def _is_silent(block: ResnetBlock2D) -> bool:
    adds_nothing = not any(bool(parameter.any()) for parameter in block.conv2.parameters())
    return adds_nothing and block.conv_shortcut is None and block.output_scale_factor == 1


@torch.no_grad()
def natural_starts_as_faithful(model: OneStepModel) -> None:
    """Copy what the faithful head has learned into a natural one that is still zero."""
    if model.description.realism is None:
        return
    for parameter in model.unet.conv_out.parameters():
        faithful, natural = parameter.chunk(2)
        if not natural.any():
            natural.copy_(faithful)
