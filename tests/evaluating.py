"""Evaluations of a small data set that tests count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from passionsr_cli import api
from passionsr_cli.evaluation.results import Results
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.progress import NO_DETAILS, Silent

NAMES = ("a", "b", "c")


class _Counting(Silent):
    """How many images were upscaled and scored, by row."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        self.counts[task] += 1


COUNTING = _Counting()


def evaluate(data: Path, output: Path, **changes: Any) -> Results:
    """Evaluate on the CPU with torch, by two metrics unless told, counted by `COUNTING`."""
    values = {
        "dataset": str(data),
        "output": output,
        "metrics": ["psnr", "ssim"],
        "device": "cpu",
        "precision": "fp32",
        "backend": "torch",
        **changes,
    }
    return api.evaluate(EvaluationSettings.model_validate(values), COUNTING)
