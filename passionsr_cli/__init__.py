"""One-step diffusion super-resolution, small and fast, with a model inside.

from passionsr_cli import UpscaleSettings, upscale

for done in upscale(["photo.jpg"], UpscaleSettings(tile=256)):
    print(done)
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from passionsr_cli._version import __version__

# If OpenVINO finds this package, it tells Google Analytics of every import and writes into ~/intel.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from passionsr_cli.api import (
        BenchmarkSettings,
        CalibrationSettings,
        DistillationSettings,
        Done,
        EvaluationSettings,
        Failed,
        PassionSRError,
        ReproductionSettings,
        RetrainingSettings,
        Skipped,
        TrainingSettings,
        Upscaler,
        UpscaleSettings,
        add_model,
        bench,
        calibrate,
        distil,
        evaluate,
        export,
        import_checkpoint,
        pull_model,
        reproduce,
        retrain,
        score,
        settings_from,
        sweep_timesteps,
        train,
        upscale,
    )

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
    "__version__",
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
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module("passionsr_cli.api"), name)


def __dir__() -> list[str]:
    return __all__
