from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from evaluating import COUNTING, NAMES
from PIL import Image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pairs, of different sizes."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "RealSR"
    for number, name in enumerate(NAMES):
        side = 48 + 8 * number
        large = Image.fromarray(draw.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        large = large.resize((side, side), Image.Resampling.BICUBIC)
        for part, image in (("test_HR", large), ("test_LR", large.resize((side // 4, side // 4)))):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image.save(folder / part / f"{name}.png")
    return folder


@pytest.fixture
def counting() -> Counter[str]:
    """How many images evaluations upscale and score from now on, by row."""
    COUNTING.counts.clear()
    return COUNTING.counts
