"""One-step diffusion super-resolution, small and fast, with a model inside.

from passionsr_cli import UpscaleSettings, upscale

for done in upscale(["photo.jpg"], UpscaleSettings(tile=256)):
    print(done)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from passionsr_cli._version import __version__

if TYPE_CHECKING:
    from passionsr_cli.api import (
        add_model,
        bench,
        calibrate,
        evaluate,
        export,
        import_checkpoint,
        reproduce,
        train,
        upscale,
    )
    from passionsr_cli.benchmark.settings import BenchmarkSettings
    from passionsr_cli.config import CalibrationSettings, UpscaleSettings
    from passionsr_cli.errors import PassionSRError
    from passionsr_cli.evaluation.settings import EvaluationSettings
    from passionsr_cli.reproduction.settings import ReproductionSettings
    from passionsr_cli.training.settings import TrainingSettings
    from passionsr_cli.upscaling.images import Done, Failed, Skipped
    from passionsr_cli.upscaling.library import Upscaler

# Importing the package must not import torch: names are looked up when they are used.
_HOMES = {
    "Done": "upscaling.images",
    "Failed": "upscaling.images",
    "Skipped": "upscaling.images",
    "Upscaler": "upscaling.library",
    "add_model": "api",
    "bench": "api",
    "calibrate": "api",
    "evaluate": "api",
    "export": "api",
    "import_checkpoint": "api",
    "reproduce": "api",
    "train": "api",
    "upscale": "api",
    "BenchmarkSettings": "benchmark.settings",
    "CalibrationSettings": "config",
    "EvaluationSettings": "evaluation.settings",
    "ReproductionSettings": "reproduction.settings",
    "TrainingSettings": "training.settings",
    "UpscaleSettings": "config",
    "PassionSRError": "errors",
}
__all__ = [
    "BenchmarkSettings",
    "CalibrationSettings",
    "Done",
    "EvaluationSettings",
    "Failed",
    "PassionSRError",
    "ReproductionSettings",
    "Skipped",
    "TrainingSettings",
    "UpscaleSettings",
    "Upscaler",
    "__version__",
    "add_model",
    "bench",
    "calibrate",
    "evaluate",
    "export",
    "import_checkpoint",
    "reproduce",
    "train",
    "upscale",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'passionsr_cli' has no attribute '{name}'")
    return getattr(importlib.import_module(f"passionsr_cli.{_HOMES[name]}"), name)
