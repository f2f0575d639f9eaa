"""Distances of images that see more than pixels, for losses."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from passionsr_cli.errors import ConfigError, MetricError
from passionsr_cli.models.loading import load
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.registry import EMBEDDED_MODEL

Distance = Callable[[Tensor, Tensor], Tensor]
LPIPS, FEATURES = "lpips", "encoder features"


def perceptual_distance(
    model: OneStepModel, device: torch.device, strict: bool
) -> tuple[str, Distance]:
    """(its name, a distance of images (B, 3, H, W) in [0, 1]), for a model in full precision.

    LPIPS where its weights are on this machine; otherwise the distance of what the model's own
    VAE encoder makes of the images, or the embedded model's where it has none, or a `ConfigError`
    if `strict`.
    """
    from passionsr_cli.metrics.losses import lpips

    try:
        return LPIPS, lpips(str(device))
    except MetricError as error:
        if strict:
            raise ConfigError(f"strict: the loss needs LPIPS, and {error}") from error
        encoding = load(EMBEDDED_MODEL).to(device) if model.vae.encoder is None else model
        return FEATURES, EncoderFeatures(encoding)


class EncoderFeatures:
    """Mean relative squared error of an encoder's features after each of its blocks.

    The encoder is a copy: it stays in full precision when the model is quantized.
    """

    def __init__(self, model: OneStepModel) -> None:
        alone = copy.copy(model)
        alone._modules = dict(model._modules)
        del alone._modules["unet"]
        self._model: OneStepModel = copy.deepcopy(alone).eval().requires_grad_(False)
        self._found: list[Tensor] = []
        encoder = self._model.vae.encoder
        for block in (encoder.conv_in, *encoder.down_blocks, encoder.mid_block):
            block.register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._found.append(output)

    def _features(self, images: Tensor) -> list[Tensor]:
        self._found = []
        self._model.encode(images)
        return self._found

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self._features(targets)
        errors = [
            (found.float() - target).square().mean() / target.square().mean()
            for found, target in zip(self._features(images), wanted, strict=True)
        ]
        return torch.stack(errors).mean()
