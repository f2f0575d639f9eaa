from __future__ import annotations

import numpy as np

from passionsr_cli.pixels.resampling import bicubic
from passionsr_cli.tiling.regions import upscaled_region


def test_a_region_shows_what_the_whole_upscale_shows() -> None:
    lr = np.random.default_rng(0).random((3, 30, 40), np.float32)
    whole = bicubic(lr, (120, 160)).clip(0, 1)
    for rows, columns in ((slice(0, 64), slice(96, 160)), (slice(56, 120), slice(32, 96))):
        found = upscaled_region(lr, 4, rows, columns)
        np.testing.assert_allclose(found, whole[:, rows, columns], atol=1e-5)
