"""Feed-forward layers of transformers: the gate in the first product, codes for the second."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from passionsr_cli.triton_kernels.layers import IntegerLayer, result_type


class IntegerFeedForward(nn.Module):
    """W₂(v · GELU(g)) with (v, g) = W₁ x on integer kernels, for diffusers' own (GEGLU).

    Takes and gives (B, N, C).
    """

    def __init__(self, first: IntegerLayer, second: IntegerLayer) -> None:
        super().__init__()
        first.gate()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        if self.second.branch_down is not None:
            result: Tensor = self.second(self.first(x))
            return result
        codes = self.first.codes_of(x, self.second.grid)
        return self.second.product_of_codes(codes, result_type(x)).reshape(*x.shape[:-1], -1)


def fuse_feed_forwards(model: nn.Module) -> None:
    """Replace the feed-forward layers of a model, whose layers are kernels already, in place."""
    from diffusers.models.attention import FeedForward

    for name, block in list(model.named_modules()):
        if isinstance(block, FeedForward) and _is_gated(block):
            first: Any = block.net[0]
            second: Any = block.net[2]
            model.set_submodule(name, IntegerFeedForward(first.proj, second))


def _is_gated(block: Any) -> bool:
    from diffusers.models.activations import GEGLU

    first, second = block.net[0], block.net[2]
    return (
        isinstance(first, GEGLU)
        and isinstance(first.proj, IntegerLayer)
        and isinstance(second, IntegerLayer)
    )
