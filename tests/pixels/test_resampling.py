from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from passionsr_cli.pixels.resampling import Kernel, bicubic, pad_mirroring, resampled_rows


@pytest.mark.parametrize("size", [(64, 80), (24, 20), (8, 10)])
def test_bicubic_is_pillows(size: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).random((16, 20), np.float32)
    wanted = Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC)
    assert np.abs(bicubic(plane, size) - np.array(wanted)).max() < 1e-5


@pytest.mark.parametrize("size", [(160, 200), (104, 132), (20, 25), (64, 90), (40, 50), (33, 21)])
def test_bicubic_is_torchs_to_the_last_bit(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((3, 40, 50), np.float32)
    wanted = F.interpolate(torch.from_numpy(image)[None], size, mode="bicubic", antialias=True)
    assert np.array_equal(bicubic(image, size), wanted[0].numpy())


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(160, 200), (97, 61), (31, 40), (40, 50)])
def test_strips_of_rows_are_pillows_whole_image(kernel: Kernel, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((3, 40, 50), np.float32)
    filtering = getattr(Image.Resampling, kernel.upper())
    for channel in range(3):
        whole = Image.fromarray(image[channel]).resize(size[::-1], filtering)
        for rows in ((0, 7), (7, 30), (30, size[0])):
            found = resampled_rows(image, size, rows, kernel)[channel]
            assert np.abs(found - np.array(whole)[slice(*rows)]).max() < 1e-5


@pytest.mark.parametrize("before", [0, 3, 12])
@pytest.mark.parametrize("padded", [(5, 7), (8, 9), (40, 33)])
def test_padding_mirrors_where_the_image_ends(padded: tuple[int, int], before: int) -> None:
    image = np.random.default_rng(0).random((3, 5, 7), np.float32)
    found = pad_mirroring(image, padded[0] + before, padded[1] + before, before)
    for axis, length in ((1, 5), (2, 7)):
        there_and_back = [*range(length), *reversed(range(length))]
        index = [there_and_back[i % (2 * length)] for i in range(-before, padded[axis - 1])]
        image = image.take(index, axis)
    assert np.array_equal(found, image)
