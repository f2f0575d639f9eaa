"""The verbs as functions: what the command line does, for Python programs.

Each lives in its room, and is imported when it is used: importing the package must not import
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from passionsr_cli.benchmark.run import bench
    from passionsr_cli.calibration.calibrate import calibrate
    from passionsr_cli.checkpoints.released.importing import import_checkpoint
    from passionsr_cli.evaluation.run import evaluate
    from passionsr_cli.export.exporting import export
    from passionsr_cli.models.published.adding import add_model
    from passionsr_cli.models.published.pulling import pull_model
    from passionsr_cli.reproduction.run import reproduce
    from passionsr_cli.training.run import retrain, train
    from passionsr_cli.training.sweep import sweep_timesteps
    from passionsr_cli.upscaling.run import upscale

ROOMS = {
    "add_model": "models.published.adding",
    "bench": "benchmark.run",
    "calibrate": "calibration.calibrate",
    "evaluate": "evaluation.run",
    "export": "export.exporting",
    "import_checkpoint": "checkpoints.released.importing",
    "pull_model": "models.published.pulling",
    "reproduce": "reproduction.run",
    "retrain": "training.run",
    "sweep_timesteps": "training.sweep",
    "train": "training.run",
    "upscale": "upscaling.run",
}
__all__ = [
    "add_model",
    "bench",
    "calibrate",
    "evaluate",
    "export",
    "import_checkpoint",
    "pull_model",
    "reproduce",
    "retrain",
    "sweep_timesteps",
    "train",
    "upscale",
]


def __getattr__(name: str) -> Any:
    if name not in ROOMS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"passionsr_cli.{ROOMS[name]}"), name)
