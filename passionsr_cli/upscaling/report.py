"""Report of a run over images, for programs."""

from __future__ import annotations

from typing import Any

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.inference.executor import Executor
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.images import Done, Failed, Outcome, Skipped, checkpoint_for


def report(
    upscaler: TiledUpscaler | None, settings: UpscaleSettings, outcomes: list[Outcome]
) -> dict[str, Any]:
    """The outcomes of images, and what made them, for JSON."""
    return {
        "images": [
            {
                "input": outcome.source,
                "output": str(outcome.output),
                "input_size": list(outcome.input_size),
                "output_size": list(outcome.output_size),
                "seconds": round(outcome.seconds, 3),
                "tiles": outcome.tiles,
            }
            for outcome in outcomes
            if isinstance(outcome, Done)
        ],
        "skipped": [
            {"input": outcome.source, "output": str(outcome.output)}
            for outcome in outcomes
            if isinstance(outcome, Skipped)
        ],
        "failed": [
            {"input": outcome.source, "error": outcome.error}
            for outcome in outcomes
            if isinstance(outcome, Failed)
        ],
        "model": settings.model,
        "checkpoint": checkpoint_for(settings),
        "realism": settings.realism if upscaler is None else upscaler.realism,
        **({} if upscaler is None else _machine(upscaler.executor, settings)),
    }


def _machine(executor: Executor, settings: UpscaleSettings) -> dict[str, Any]:
    ran = executor.kernels()
    return {
        "model": settings.model or executor.description.name,
        "backend": executor.backend,
        "device": executor.device,
        "precision": executor.precision,
        "integer": ran.on_integers,
        "layers": ran.as_dict(),
        "peak_memory_bytes": executor.peak_memory_bytes(),
    }
