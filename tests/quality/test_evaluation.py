"""`passionsr evaluate` against numbers that are known from elsewhere.

Needs what `test_mini.py` needs and, for the second test, the images OSEDiff released for these
crops:

    PASSIONSR_REALSR=DIR PASSIONSR_NIQE=niqe_modelparameters.mat PASSIONSR_OSEDIFF=DIR \\
        pytest -s tests/quality/test_evaluation.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from passionsr_cli import api
from passionsr_cli.evaluation.settings import EvaluationSettings

DATA, NIQE = os.environ.get("PASSIONSR_REALSR"), os.environ.get("PASSIONSR_NIQE")
RELEASED = os.environ.get("PASSIONSR_OSEDIFF")
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


@pytest.mark.skipif(not RELEASED, reason="PASSIONSR_OSEDIFF is not set")
def test_released_images_of_osediff(tmp_path: Path) -> None:
    found = _scores(tmp_path, images=[RELEASED])
    assert found == pytest.approx({"psnr": 25.151, "ssim": 0.7341, "niqe": 5.647}, abs=5e-4)
