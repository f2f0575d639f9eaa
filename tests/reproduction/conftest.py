"""A small data set, a small table, and calibrations in this process: one of their own takes
seconds to start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from calibrating import Making
from PIL import Image

from passionsr_cli.reproduction.settings import ReproductionSettings


@pytest.fixture
def making() -> Making:
    return Making()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pairs."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "RealSR"
    for name in ("a", "b"):
        large = Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8))
        large = large.resize((64, 64), Image.Resampling.BICUBIC)
        for part, image in (("test_HR", large), ("test_LR", large.resize((16, 16)))):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image.save(folder / part / f"{name}.png")
    return folder


@pytest.fixture
def settings(tmp_path: Path, least_folder: Path, data: Path) -> ReproductionSettings:
    """A table of the least model: two rows are calibrated in no time, one learns."""
    table = {
        "title": "A table",
        "published": "PassionSR (CVPR 2025), Table 2",
        "columns": ["psnr", "ssim", "lpips", "to_fp_db", "hours", "memory_gb"],
        "rows": [
            {"label": "OSEDiff", "published_only": True},
            {"label": "PassionSR-FP"},
            {"label": "MaxMin", "bits": "w8a8", "method": "maxmin"},
            {"label": "MaxMin", "bits": "w6a6", "method": "maxmin"},
            {"label": "PassionSR", "bits": "w6a6", "method": "passionsr"},
        ],
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(table))
    fits = {"component": {"steps": 2, "learning_rate": 0.01}}
    quick = {"crops": 2, "crop_px": 32, "precision": "fp32", "method_settings": {"passionsr": fits}}
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(quick))
    return ReproductionSettings(
        table=str(tmp_path / "small.yaml"),
        model=str(least_folder),
        dataset=str(data),
        config=str(tmp_path / "quick.yaml"),
        only=("osediff", "fp", "maxmin"),
        metrics=("psnr", "ssim"),
        output=tmp_path / "out",
        device="cpu",
        backend="torch",
    )
