"""`passionsr evaluate` against numbers that are known from elsewhere.

Needs what `test_mini.py` needs and, for the last two tests, the images OSEDiff released for these
crops and those that `rivals.py` makes of them:

    PASSIONSR_REALSR=DIR PASSIONSR_NIQE=niqe_modelparameters.mat PASSIONSR_OSEDIFF=DIR \\
        PASSIONSR_REALESRGAN_IMAGES=DIR pytest -s tests/quality/test_evaluation.py
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli import api
from passionsr_cli.evaluation.settings import EvaluationSettings

DATA, NIQE = os.environ.get("PASSIONSR_REALSR"), os.environ.get("PASSIONSR_NIQE")
RELEASED = os.environ.get("PASSIONSR_OSEDIFF")
RIVAL = os.environ.get("PASSIONSR_REALESRGAN_IMAGES")
pytestmark = pytest.mark.skipif(
    not (DATA and NIQE), reason="PASSIONSR_REALSR and PASSIONSR_NIQE are not set"
)


def _scores(output: Path, **rows: Any) -> dict[str, float]:
    values = {
        "dataset": DATA,
        "metrics": ["psnr", "ssim", "niqe"],
        "metric_weights": Path(str(NIQE)).parent,
        "output": output,
        **rows,
    }
    results = api.evaluate(EvaluationSettings.model_validate(values))
    (row,) = results.rows
    print(f"\n{row.name}, {results.n} images: {row.metrics}")
    assert results.n == 100
    return row.metrics


def test_bicubic(tmp_path: Path) -> None:
    found = _scores(tmp_path, baseline=["bicubic"])
    assert found == pytest.approx({"psnr": 27.113, "ssim": 0.7555, "niqe": 8.994}, abs=5e-4)


def _read(path: Path) -> torch.Tensor:
    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).float() / 255


def _loop(images: Path) -> dict[str, float]:
    """The same means as anybody would compute them with pyiqa."""
    import pyiqa

    luma = {"test_y_channel": True, "color_space": "ycbcr"}
    metrics = {name: pyiqa.create_metric(name, device="cpu", **luma) for name in ("psnr", "ssim")}
    niqe = pyiqa.create_metric("niqe", device="cpu", pretrained_model_path=NIQE)
    files = sorted(images.iterdir())
    sums = dict.fromkeys(("psnr", "ssim", "niqe"), 0.0)
    for file in files:
        image, reference = _read(file), _read(Path(str(DATA)) / "test_HR" / file.name)
        for name, metric in metrics.items():
            sums[name] += float(metric(image, reference))
        sums["niqe"] += float(niqe(image))
    return {name: total / len(files) for name, total in sums.items()}


def test_finished_images_take_less_time_than_a_loop(tmp_path: Path) -> None:
    """The whole evaluation, its report included."""
    _scores(tmp_path / "made", baseline=["bicubic"])
    images = tmp_path / "made" / "images" / "bicubic"
    took = {}
    for number in range(2):
        started = time.perf_counter()
        wanted = _loop(images)
        between = time.perf_counter()
        found = _scores(tmp_path / f"finished-{number}", images=[images])
        took = {"loop": between - started, "evaluate": time.perf_counter() - between}
        assert found == pytest.approx(wanted, rel=1e-5)
    print(f"100 images: {took['evaluate']:.1f} s, pyiqa in a loop {took['loop']:.1f} s")
    assert took["evaluate"] < took["loop"]


@pytest.mark.skipif(not RELEASED, reason="PASSIONSR_OSEDIFF is not set")
def test_released_images_of_osediff(tmp_path: Path) -> None:
    found = _scores(tmp_path, images=[RELEASED])
    assert found == pytest.approx({"psnr": 25.151, "ssim": 0.7341, "niqe": 5.647}, abs=5e-4)


@pytest.mark.skipif(not RIVAL, reason="PASSIONSR_REALESRGAN_IMAGES is not set")
def test_images_of_real_esrgan(tmp_path: Path) -> None:
    """The weights are read right, and run as they should."""
    found = _scores(tmp_path, images=[RIVAL], metrics=["psnr", "ssim", "niqe", "lite1"])
    known = {"psnr": (25.73, 5e-3), "ssim": (0.7619, 2e-4), "niqe": (5.81, 5e-3)}
    for key, (value, tolerance) in {**known, "lite1": (0.6481, 1e-3)}.items():
        assert found[key] == pytest.approx(value, abs=tolerance), key
