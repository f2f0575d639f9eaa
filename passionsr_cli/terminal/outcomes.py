"""Outcomes of images, told to a person or to a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from passionsr_cli.terminal.console import output, print_json, show_error, show_note, show_result

if TYPE_CHECKING:
    from passionsr_cli.config import UpscaleSettings
    from passionsr_cli.inference.executor import Executor
    from passionsr_cli.tiling.upscaler import TiledUpscaler
    from passionsr_cli.upscaling.images import Outcome


def summarise(
    upscaler: TiledUpscaler | None,
    settings: UpscaleSettings,
    outcomes: list[Outcome],
    as_json: bool,
    seconds: float | None = None,
) -> None:
    """Failures, where they are seen: at the end, and what several images took."""
    from passionsr_cli.imaging.samples import is_sample
    from passionsr_cli.upscaling.images import Done, Failed, Skipped
    from passionsr_cli.upscaling.report import report

    if as_json:
        print_json(report(upscaler, settings, outcomes))
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    for outcome in failed:
        show_error(outcome.error)
    if as_json:
        return
    if len(outcomes) > 1:
        count = sum(isinstance(outcome, Done) for outcome in outcomes)
        skipped = len(outcomes) - count - len(failed)
        there = f", {skipped} there already" if skipped else ""
        took = "" if seconds is None else f", {seconds:.0f} s"
        output.print(f"{count} upscaled{there}, {len(failed)} failed{took}")
    elif outcomes and isinstance(outcomes[0], Skipped):
        show_result(str(outcomes[0]))
    for done in (each for each in outcomes if isinstance(each, Done) and is_sample(each.source)):
        width, height = done.input_size
        show_note(f"{done.source} is a photograph that was made small first, {width}×{height}")
    if upscaler is not None:
        _note_what_ran(upscaler.executor)


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
