"""Upscaling under a progress bar: all that is planned, or what comes into folders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.system import interruptions
from passionsr_cli.terminal.comparing import NOTHING, Comparing
from passionsr_cli.terminal.console import (
    EXIT_ERROR,
    show_error,
    show_note,
    show_result,
)
from passionsr_cli.terminal.outcomes import summarise
from passionsr_cli.terminal.progress import ImageBar, Lines
from passionsr_cli.upscaling.images import Done, Failed, Outcome, open_upscaler, without_work
from passionsr_cli.upscaling.planning import Job, Refused
from passionsr_cli.upscaling.run import Outcomes, plan_work, upscale_on_ray, upscale_planned

if TYPE_CHECKING:
    from passionsr_cli.tiling.upscaler import TiledUpscaler


@dataclass
class _Run:
    """State of a run when it ends, however it ends; `began` is None of watching, which takes as
    long as it is let."""

    began: float | None = None
    upscaler: TiledUpscaler | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        return None if self.began is None else time.perf_counter() - self.began

    def take(self, results: Outcomes, quiet: bool) -> None:
        """Keep all outcomes, and show those that are results."""
        # However the loop ends, what is being worked on is dropped.
        with closing(results) as found:
            for outcome in found:
                self.outcomes.append(outcome)
                if isinstance(outcome, Done) and not quiet:
                    show_result(str(outcome))


def upscale_all(
    inputs: list[str],
    settings: UpscaleSettings,
    as_json: bool,
    comparing: Comparing = NOTHING,
    quiet: bool = False,
) -> None:
    """Plan, upscale and summarise; ends with an exit code unless all went well."""
    from passionsr_cli.system.processes import Processes

    run = _Run(time.perf_counter())
    work = plan_work(inputs, settings)
    refused = [item for item in work.planned if isinstance(item, Refused)]
    unfinished = work.journal is not None and work.journal.folder.exists()
    settled: list[Outcome] = [
        without_work(item) for item in work.planned if not isinstance(item, Job)
    ]
    if not unfinished and len(settled) == len(work.planned):
        # No need to load a model to say so.
        summarise(None, settings, settled, as_json)
        comparing.write(settled, settings)
        raise typer.Exit(EXIT_ERROR if refused else 0)
    processes = Processes()
    how = "; the same command goes on" if work.journal else ""
    with _told_when_stopped(run, settings, as_json, f" of {len(work.planned)}", how):
        with ImageBar(len(processes.share(work.planned))) as bar:
            if settings.engine == "local":
                run.upscaler = open_upscaler(settings, bar, processes, work.is_of_one)
                results = upscale_planned(run.upscaler, work, settings, bar, processes)
            else:
                results = upscale_on_ray(work, settings, bar)
            run.take(results, quiet or as_json)
        run.outcomes = processes.gather(run.outcomes)
    if processes.is_first:
        summarise(run.upscaler, settings, run.outcomes, as_json, run.seconds)
        comparing.write(run.outcomes, settings)
    if any(isinstance(outcome, Failed) for outcome in run.outcomes):
        raise typer.Exit(EXIT_ERROR)


def watch_folders(inputs: list[str], settings: UpscaleSettings, as_json: bool) -> None:
    """Upscale what is in folders without a result, and what comes there, until Ctrl-C."""
    from passionsr_cli.upscaling.planning import is_several
    from passionsr_cli.upscaling.watching import watch

    if not is_several(inputs):
        raise ConfigError(f"--watch needs a folder, and {inputs[0]} is none")
    if settings.engine != "local":
        raise ConfigError("--watch does not go with --engine ray")
    if settings.overwrite:
        raise ConfigError("--watch makes what is missing; it does not go with --overwrite")
    run = _Run()
    with _told_when_stopped(run, settings, as_json):
        run.upscaler = open_upscaler(settings, Lines())
        show_note(f"watching {', '.join(inputs)}; Ctrl-C ends it")
        run.take(_failures_told(watch(run.upscaler, inputs, settings)), as_json)


def _failures_told(outcomes: Outcomes) -> Outcomes:
    """The same, with an error line as soon as an image fails: there is no end to wait for."""
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            show_error(outcome.error)
        yield outcome


@contextmanager
def _told_when_stopped(
    run: _Run, settings: UpscaleSettings, as_json: bool, of_all: str = "", how: str = ""
) -> Iterator[None]:
    """Say at Ctrl-C what was done, and how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        summarise(run.upscaler, settings, run.outcomes, as_json, run.seconds)
        show_error(f"interrupted: {len(run.outcomes)}{of_all} images were worked on{how}")
        raise typer.Exit(interruptions.exit_code()) from None
