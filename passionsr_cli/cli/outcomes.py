"""Outcomes of images, told to a person or to a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from passionsr_cli.cli.console import output, print_json, show_error, show_note

if TYPE_CHECKING:
    from passionsr_cli.config import UpscaleSettings
    from passionsr_cli.inference.executor import Executor
    from passionsr_cli.inference.tiled import TiledUpscaler
    from passionsr_cli.upscaling.images import Outcome


def summarise(
    upscaler: TiledUpscaler | None,
    settings: UpscaleSettings,
    outcomes: list[Outcome],
    as_json: bool,
) -> None:
    """Failures, where they are seen: at the end."""
    from passionsr_cli.upscaling.images import Done, Failed

    if as_json:
        print_json(report(upscaler, settings, outcomes))
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    for outcome in failed:
        show_error(outcome.error)
    if as_json:
        return
    if len(outcomes) > 1:
        done = sum(isinstance(outcome, Done) for outcome in outcomes)
        skipped = len(outcomes) - done - len(failed)
        there = f", {skipped} there already" if skipped else ""
        output.print(f"{done} upscaled{there}, {len(failed)} failed")
    if upscaler is not None:
        _note_what_ran(upscaler.executor)


def report(
    upscaler: TiledUpscaler | None, settings: UpscaleSettings, outcomes: list[Outcome]
) -> dict[str, Any]:
    """The JSON of `--json`."""
    from passionsr_cli.upscaling.images import Done, Failed, Skipped, checkpoint_for

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


def _note_what_ran(executor: Executor) -> None:
    """Say so where quantized layers did not run on integers."""
    floating = executor.kernels().floating
    if floating and executor.backend == "torch":
        show_note("simulated: torch computes the checkpoint's integers in floating point")
    elif floating:
        name, reason = floating[0]
        show_note(
            f"{len(floating)} quantized layers did not run on integers, such as {name}: {reason}"
        )
