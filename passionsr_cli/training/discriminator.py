"""The critics of adversarial training: does this look like a photograph, and like this one?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from passionsr_cli.training.features import CHANNELS

SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """One logit for each overlapping patch of an image, given the upscaled LR beside it.

    Seeing the LR image too, it judges whether details belong there, not only whether they are
    sharp (pix2pix, arXiv 1611.07004). Spectral normalisation keeps it smooth
    (arXiv 1802.05957).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        shapes = ((24, c, 3, 1), (c, 2 * c, 4, 2), (2 * c, 2 * c, 3, 1), (2 * c, 4 * c, 4, 2))
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(i, o, k, stride=s, padding=1)) for i, o, k, s in shapes
        )
        self.to_logit = spectral_norm(nn.Conv2d(4 * c, 1, 3, padding=1))

    def forward(self, image: Tensor, upscaled: Tensor) -> Tensor:
        """Logits (B, 1, H/8, W/8) for images (B, 3, H, W) in [0, 1]."""
        features = F.pixel_unshuffle(torch.cat([image, upscaled], 1) * 2 - 1, 2)
        features = features.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            features = F.leaky_relu(layer(features), SLOPE)
        logits: Tensor = self.to_logit(features)
        return logits.float()


class ProjectedDiscriminator(nn.Module):
    """Logits at four scales from the features of a frozen network (arXiv 2111.01007).

    Fixed random 1×1 convolutions mix the channels of each scale, fixed random 3×3 ones mix
    scales from coarse to fine, so that no critic can rest on a few telling channels; what
    learns is one small convolutional critic a scale.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels_mixed = nn.ModuleList(nn.Conv2d(c, channels, 1, bias=False) for c in CHANNELS)
        self.scales_mixed = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in CHANNELS[:-1]
        )
        for mixing in (*self.channels_mixed, *self.scales_mixed):
            nn.init.kaiming_normal_(mixing.weight, nonlinearity="linear")
            mixing.requires_grad_(False)
        self.critics = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(channels, channels, 3, padding=1)),
                nn.LeakyReLU(SLOPE),
                spectral_norm(nn.Conv2d(channels, channels, 3, padding=1)),
                nn.LeakyReLU(SLOPE),
                spectral_norm(nn.Conv2d(channels, 1, 1)),
            )
            for _ in CHANNELS
        )

    def learned(self) -> list[nn.Parameter]:
        """The parameters of the critics; the mixing stays as it was drawn."""
        return list(self.critics.parameters())

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Logits (B, 1, h, w) a scale, finest first, of the maps of `Lite0Features`."""
        mixed = [mix(_normalised(x)) for mix, x in zip(self.channels_mixed, features, strict=True)]
        for index in reversed(range(len(self.scales_mixed))):
            coarser = F.interpolate(mixed[index + 1], mixed[index].shape[-2:], mode="bilinear")
            mixed[index] = self.scales_mixed[index](mixed[index] + coarser) / 2**0.5
        return [critic(x).float() for critic, x in zip(self.critics, mixed, strict=True)]


def _normalised(features: Tensor) -> Tensor:
    """Maps of one size of value, whatever the depth they come from."""
    return features / features.square().mean((1, 2, 3), keepdim=True).add(1e-6).sqrt()
