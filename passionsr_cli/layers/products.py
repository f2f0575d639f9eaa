"""Products of layers: what a convolution or a linear layer does with its weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn


class Product(ABC):
    """Product of an input and a weight; `channel_axis` is that of the input's channels."""

    channel_axis: ClassVar[int]

    @abstractmethod
    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, padded: bool = False
    ) -> Tensor:
        """The product; `padded` says that `x` has its border already."""

    @abstractmethod
    def branch(self, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """L₁(L₂ X) of X as it is, every operand and result in bfloat16."""

    def pad(self, x: Tensor) -> Tensor:
        """`x` with the border its product will see."""
        return x

    def move(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        """X̃ = (X − δ) / s, float32, with one scale and shift per channel or none."""
        x = x.float()
        if shift is not None:
            x = x - self._along_channels(shift, x)
        return x if scale is None else x / self._along_channels(scale, x)

    def _along_channels(self, values: Tensor, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        shape[self.channel_axis] = -1
        return values.reshape(shape)


@dataclass(frozen=True)
class Convolution(Product):
    """Product of a convolution: input and output (B, C, H, W), weight (O, C, h, w)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    channel_axis: ClassVar[int] = 1

    def pad(self, x: Tensor) -> Tensor:
        vertical, horizontal = self.padding
        return F.pad(x, (horizontal, horizontal, vertical, vertical))

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, padded: bool = False
    ) -> Tensor:
        padding = (0, 0) if padded else self.padding
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation)

    def branch(self, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        return F.conv2d(self(x.to(down.dtype), down, None), up)


@dataclass(frozen=True)
class Linear(Product):
    """Product of a linear layer: input (…, C), output (…, O), weight (O, C)."""

    channel_axis: ClassVar[int] = -1

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, padded: bool = False
    ) -> Tensor:
        return F.linear(x, weight, bias)

    def branch(self, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        return F.linear(F.linear(x.to(down.dtype), down), up)


def product_of(layer: nn.Conv2d | nn.Linear) -> Product:
    """The product of a layer of torch's."""
    if isinstance(layer, nn.Linear):
        return Linear()
    assert not isinstance(layer.padding, str)
    return Convolution(_pair(layer.stride), _pair(layer.padding), _pair(layer.dilation))


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    vertical, horizontal = values
    return vertical, horizontal


class QuantizedLayer(nn.Module):
    """Base of what stands in a model for a convolution or a linear layer."""

    weight: Tensor

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.product = product
