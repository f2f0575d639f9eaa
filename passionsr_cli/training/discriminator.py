"""The critic of adversarial training: does this patch look like a photograph?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


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
            features = F.leaky_relu(layer(features), 0.2)
        logits: Tensor = self.to_logit(features)
        return logits.float()
