from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli.imaging.resampling import Kernel, bicubic, pad_reflecting, resampled_rows


@pytest.mark.parametrize("size", [(64, 80), (24, 20), (8, 10)])
def test_bicubic_is_pillows(size: tuple[int, int]) -> None:
    plane = torch.rand(16, 20, generator=torch.manual_seed(0))
    wanted = Image.fromarray(plane.numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
    found = bicubic(plane[None, None], size)[0, 0]
    assert np.abs(found.numpy() - np.array(wanted)).max() < 1e-5


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(160, 200), (97, 61), (31, 40), (40, 50)])
def test_strips_of_rows_are_pillows_whole_image(kernel: Kernel, size: tuple[int, int]) -> None:
    image = torch.rand(3, 40, 50, generator=torch.manual_seed(0))
    filtering = getattr(Image.Resampling, kernel.upper())
    for channel in range(3):
        whole = Image.fromarray(image[channel].numpy()).resize(size[::-1], filtering)
        for rows in ((0, 7), (7, 30), (30, size[0])):
            found = resampled_rows(image, size, rows, kernel)[channel]
            assert np.abs(found.numpy() - np.array(whole)[slice(*rows)]).max() < 1e-5


@pytest.mark.parametrize("padded", [(5, 7), (8, 9), (40, 33)])
def test_padding_is_numpys_reflection(padded: tuple[int, int]) -> None:
    image = torch.rand(3, 5, 7)
    extra = ((0, 0), (0, padded[0] - 5), (0, padded[1] - 7))
    expected = np.pad(image.numpy(), extra, mode="reflect")
    assert np.array_equal(pad_reflecting(image, *padded).numpy(), expected)
