"""Matrices of low rank beside or inside a quantized weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from passionsr_cli.errors import ConfigError

SMALLEST_UNIT = 1e-12


class LowRank(nn.Module):
    """up·down, shaped like a weight (O, C, …) with up (O, r) and down (r, C, …).

    Both are learned as multiples of their size at the start, like bounds are, so that one
    learning rate suits every layer. Zero until it is started.
    """

    up_unit: Tensor
    down_unit: Tensor

    def __init__(self, shape: Sequence[int], rank: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.up = nn.Parameter(torch.zeros(self.shape[0], rank))
        self.down = nn.Parameter(torch.zeros(rank, *self.shape[1:]))
        self.register_buffer("up_unit", torch.ones(()))
        self.register_buffer("down_unit", torch.ones(()))

    def factors(self) -> tuple[Tensor, Tensor]:
        """(down, up), float32; gradients reach what is learned."""
        return self.down * self.down_unit, self.up * self.up_unit

    def product(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """up·down, shaped (O, C, …), of the factors as numbers of this type; gradients pass as if
        they were not rounded."""
        down, up = (each + (each.to(dtype) - each).detach() for each in self.factors())
        with torch.autocast(down.device.type, enabled=False):
            return (up @ down.flatten(1)).reshape(self.shape)

    @torch.no_grad()
    def clear(self) -> None:
        """Zero again."""
        self.up.zero_()

    @torch.no_grad()
    def start_nearest(self, matrix: Tensor, channel_scale: Tensor | None = None) -> None:
        """The nearest matrix of this rank: the largest singular values of `matrix`.

        With a scale s of each input channel, nearest in s ⊙ matrix.
        """
        scale = matrix.new_ones(matrix.shape[1]) if channel_scale is None else channel_scale
        along = (1, -1, *[1] * (matrix.dim() - 2))
        scaled = (matrix * scale.reshape(along)).double().flatten(1)
        # Singular vectors of one side are the eigenvectors of a square matrix, fast to take apart
        # where the side is short; eigenvalues come in rising order.
        rank, tall = self.up.shape[1], scaled.shape[0] > scaled.shape[1]
        square = scaled.t() @ scaled if tall else scaled @ scaled.t()
        vectors = torch.linalg.eigh(square).eigenvectors[:, -rank:]
        up = scaled @ vectors if tall else vectors
        down = vectors.t() if tall else vectors.t() @ scaled
        down = down.reshape(self.down.shape) / scale.double().reshape(along)
        self._take(up, down, _size(up), _size(down))

    @torch.no_grad()
    def start_at_zero(self, matrix: Tensor) -> None:
        """Zero, with the directions of `matrix` that matter most to learn along."""
        self.start_nearest(matrix)
        down, up = self.factors()
        self._take(torch.zeros_like(up), down, _size(up), _size(down))

    def _take(self, up: Tensor, down: Tensor, up_size: float, down_size: float) -> None:
        self.up_unit.fill_(up_size)
        self.down_unit.fill_(down_size)
        self.up.copy_(up / up_size)
        self.down.copy_(down / down_size)


def largest_rank(shape: Sequence[int]) -> int:
    """The largest rank that a weight of this shape can have."""
    return min(shape[0], math.prod(shape[1:]))


def check_rank(rank: int, shape: Sequence[int], name: str) -> int:
    """A rank, unless a weight of this shape cannot have it."""
    largest = largest_rank(shape)
    if rank > largest:
        raise ConfigError(
            f"rank {rank} is too large for {name}, whose weight {tuple(shape)} has rank "
            f"{largest} at most; lower the rank of its kind of layer"
        )
    return rank


def _size(tensor: Tensor) -> float:
    """Root mean square."""
    return max(float(tensor.square().mean().sqrt()), SMALLEST_UNIT)
