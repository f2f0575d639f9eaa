"""The verbs as functions: what the command line does, for Python programs, and their settings.

Verbs raise `PassionSRError`, and so does `settings_from` for settings that cannot be; a class of
settings that is called with wrong values raises pydantic's `ValidationError`, a `ValueError`.

Each lives in its room, and is imported when it is used: importing the package must not import
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from passionsr_cli.benchmark.run import bench
    from passionsr_cli.benchmark.settings import BenchmarkSettings
    from passionsr_cli.calibration.calibrate import calibrate
    from passionsr_cli.checkpoints.released.importing import import_checkpoint
    from passionsr_cli.config import CalibrationSettings, UpscaleSettings
    from passionsr_cli.errors import PassionSRError
    from passionsr_cli.evaluation.run import evaluate
    from passionsr_cli.evaluation.scores import score
    from passionsr_cli.evaluation.settings import EvaluationSettings
    from passionsr_cli.exports.exporting import export
    from passionsr_cli.layering import settings_from
    from passionsr_cli.published.adding import add_model
    from passionsr_cli.published.pulling import pull_model
    from passionsr_cli.reproduction.run import reproduce
    from passionsr_cli.reproduction.settings import ReproductionSettings
    from passionsr_cli.retiming.run import retrain
    from passionsr_cli.retiming.settings import RetrainingSettings
    from passionsr_cli.retiming.sweep import sweep_timesteps
    from passionsr_cli.training.distilling import distil
    from passionsr_cli.training.run import train
    from passionsr_cli.training.settings import DistillationSettings, TrainingSettings
    from passionsr_cli.upscaling.images import Done, Failed, Skipped
    from passionsr_cli.upscaling.library import Upscaler
    from passionsr_cli.upscaling.run import upscale

ROOMS = {
    "BenchmarkSettings": "benchmark.settings",
    "CalibrationSettings": "config",
    "DistillationSettings": "training.settings",
    "Done": "upscaling.images",
    "EvaluationSettings": "evaluation.settings",
    "Failed": "upscaling.images",
    "PassionSRError": "errors",
    "ReproductionSettings": "reproduction.settings",
    "RetrainingSettings": "retiming.settings",
    "Skipped": "upscaling.images",
    "TrainingSettings": "training.settings",
    "UpscaleSettings": "config",
    "Upscaler": "upscaling.library",
    "add_model": "published.adding",
    "bench": "benchmark.run",
    "calibrate": "calibration.calibrate",
    "distil": "training.distilling",
    "evaluate": "evaluation.run",
    "export": "exports.exporting",
    "import_checkpoint": "checkpoints.released.importing",
    "pull_model": "published.pulling",
    "reproduce": "reproduction.run",
    "retrain": "retiming.run",
    "score": "evaluation.scores",
    "settings_from": "layering",
    "sweep_timesteps": "retiming.sweep",
    "train": "training.run",
    "upscale": "upscaling.run",
}
__all__ = [
    "BenchmarkSettings",
    "CalibrationSettings",
    "DistillationSettings",
    "Done",
    "EvaluationSettings",
    "Failed",
    "PassionSRError",
    "ReproductionSettings",
    "RetrainingSettings",
    "Skipped",
    "TrainingSettings",
    "UpscaleSettings",
    "Upscaler",
    "add_model",
    "bench",
    "calibrate",
    "distil",
    "evaluate",
    "export",
    "import_checkpoint",
    "pull_model",
    "reproduce",
    "retrain",
    "score",
    "settings_from",
    "sweep_timesteps",
    "train",
    "upscale",
]


def __getattr__(name: str) -> Any:
    if name not in ROOMS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"passionsr_cli.{ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
