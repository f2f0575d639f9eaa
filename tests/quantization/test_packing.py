from __future__ import annotations

import pytest
import torch

from passionsr_cli.quantization.packing import pack, unpack


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(7,), (3, 5, 3, 3), (0,)])
def test_what_is_packed_is_unpacked(bits: int, shape: tuple[int, ...]) -> None:
    values = torch.randint(2**bits, shape, dtype=torch.uint8)
    packed = pack(values, bits)
    assert packed.numel() == -(-values.numel() * bits // 8)
    assert torch.equal(unpack(packed, bits, shape), values)


def test_the_layout_is_the_documented_one() -> None:
    """Value i at bits 6i to 6i + 5, lowest bit first, as one big integer would hold them."""
    values = [1, 63, 32, 7, 0, 44]
    stream = sum(value << (6 * index) for index, value in enumerate(values))
    packed = pack(torch.tensor(values), 6)
    assert bytes(packed.tolist()) == stream.to_bytes(5, "little")
