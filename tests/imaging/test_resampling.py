from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli.imaging.resampling import bicubic, lanczos, pad_reflecting


@pytest.mark.parametrize("size", [(64, 80), (24, 20), (8, 10)])
def test_bicubic_is_pillows(size: tuple[int, int]) -> None:
    plane = torch.rand(16, 20, generator=torch.manual_seed(0))
    wanted = Image.fromarray(plane.numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
    found = bicubic(plane[None, None], size)[0, 0]
    assert np.abs(found.numpy() - np.array(wanted)).max() < 1e-5


def test_lanczos_keeps_a_constant() -> None:
    torch.testing.assert_close(
        lanczos(torch.full((1, 8, 9), 0.3), (32, 36)), torch.full((1, 32, 36), 0.3)
    )


@pytest.mark.parametrize("padded", [(5, 7), (8, 9), (40, 33)])
def test_padding_is_numpys_reflection(padded: tuple[int, int]) -> None:
    image = torch.rand(3, 5, 7)
    extra = ((0, 0), (0, padded[0] - 5), (0, padded[1] - 7))
    expected = np.pad(image.numpy(), extra, mode="reflect")
    assert np.array_equal(pad_reflecting(image, *padded).numpy(), expected)
