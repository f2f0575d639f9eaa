"""Integers of 2 to 8 bits, packed without gaps: six-bit weights take six bits on disk."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pack(values: Tensor, num_bits: int) -> Tensor:
    """Unsigned integers below 2^num_bits as a flat uint8 tensor, lowest bit first.

    Value i occupies bits i·b to (i + 1)·b − 1 of the stream; the last byte is filled with zeros.
    """
    flat = values.reshape(-1).to(torch.uint8).numpy()
    assert int(flat.max(initial=0)) < 2**num_bits
    bits = np.unpackbits(flat[:, None], axis=1, count=num_bits, bitorder="little")
    return torch.from_numpy(np.packbits(bits.reshape(-1), bitorder="little"))


def unpack(packed: Tensor, num_bits: int, shape: tuple[int, ...]) -> Tensor:
    """The uint8 tensor of `shape` that `pack` packed."""
    count = int(np.prod(shape))
    if num_bits == 8:
        return packed[:count].reshape(shape)
    bits = np.unpackbits(packed.numpy(), count=count * num_bits, bitorder="little")
    values = np.packbits(bits.reshape(count, num_bits), axis=1, bitorder="little")
    return torch.from_numpy(values.reshape(shape))
