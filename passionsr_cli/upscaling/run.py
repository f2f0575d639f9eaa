"""Many images: what is to be done, and doing it with reading, computing and writing overlapped."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from passionsr_cli import __version__
from passionsr_cli.checkpoints.artifacts import Artifact
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.graphs.made_by import image_code
from passionsr_cli.progress import NO_DETAILS, SILENT, Reporter
from passionsr_cli.system.paths import StrPath
from passionsr_cli.system.processes import Processes
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.finished import (
    Finished,
    Identity,
    Line,
    identity,
    is_of_another,
    line_of,
)
from passionsr_cli.upscaling.images import (
    Done,
    Note,
    Outcome,
    artifact_for,
    note_nothing,
    open_upscaler,
    upscale_job,
    without_work,
)
from passionsr_cli.upscaling.journal import Journal
from passionsr_cli.upscaling.naming import Naming
from passionsr_cli.upscaling.planning import Job, Planned, is_several, only_result, plan
from passionsr_cli.upscaling.shared_time import SharedTime
from passionsr_cli.upscaling.sizing import TargetSize

# While one image is computed, another is read or written.
IMAGES_AT_ONCE = 2
# Those that are dropped end with their next tile.
DROPPED_WITHIN_SECONDS = 3.0
# Settings that say which images are worked on and where, but not what becomes of one.
NOT_OF_THE_IMAGE = {"output", "name", "format", "recursive", "overwrite", "skip_existing", "engine"}


Outcomes = Generator[Outcome, None, None]


@dataclass(frozen=True)
class Work:
    """Planned images, what names how they are made, and their journal, which is None where results
    have no common folder. `is_of_another` tells of a source and its result that exists whether
    that was made of another image, or of this one before it changed."""

    planned: Sequence[Planned]
    made_by: str
    journal: Journal | None = None
    is_of_another: Callable[[str, Path], bool] = lambda source, output: False

    @property
    def is_of_one(self) -> bool:
        """True if one image at most is computed."""
        return sum(isinstance(item, Job) for item in self.planned) <= 1


class _StoppedError(Exception):
    """Nobody wants the image any more that is being worked on."""


class _UntilStopped:
    """Passes reports on until nobody wants the images any more that are being worked on."""

    def __init__(self, reporter: Reporter) -> None:
        self.stopped = threading.Event()
        self.started, self.note, self.done = reporter.started, reporter.note, reporter.done
        self._step = reporter.step

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        if self.stopped.is_set():
            raise _StoppedError
        self._step(task, done, details)


def upscale(
    inputs: StrPath | Sequence[StrPath],
    settings: UpscaleSettings | None = None,
    reporter: Reporter = SILENT,
) -> Outcomes:
    """Upscale the images that `inputs` (files, folders, patterns, `sample:NAME`; or one) name.

    Outcomes come in the order of the inputs; a failure is one of them, and the others go on.
    Several images overlap: `reporter` hears of their tiles from several threads. Raises
    `PassionSRError` before the first image if the model or the device cannot be had. With `engine`
    ray in the settings the work is shared on a cluster, and outcomes come in no order.
    """
    settings = settings or UpscaleSettings()
    named = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    work = plan_work([os.fspath(each) for each in named], settings)
    if settings.engine == "ray":
        return upscale_on_ray(work, settings, reporter)
    upscaler = open_upscaler(settings, reporter, is_only=work.is_of_one)
    return upscale_planned(upscaler, work, settings, reporter)


def plan_work(inputs: Sequence[str], settings: UpscaleSettings) -> Work:
    """The images that `inputs` name, and where an interrupted run over them had come to."""
    artifact = artifact_for(settings)
    root = _common_folder(inputs, settings)
    made_by = fingerprint(artifact, settings)
    journal = None if root is None else Journal(root, made_by)

    @cache
    def finished(folder: Path) -> Finished:
        return Finished(folder, made_by)

    def keep(image: str, output: Path) -> bool:
        if settings.skip_existing or (journal is not None and journal.holds(image, output)):
            return True
        return not settings.overwrite and finished(root or output.parent).holds(image, output)

    def line_of_result(image: Path) -> Line | None:
        folders = image.absolute().parents
        return next(filter(None, (finished(folder).line(image) for folder in folders)), None)

    def source_of(image: Path) -> str | None:
        line = line_of_result(image)
        return None if line is None else str(line.get("source"))

    def of_another(image: str, output: Path) -> bool:
        return is_of_another(line_of_result(output), image, output)

    scale = TargetSize.of(settings).label(artifact.description.upscale_factor)
    naming = Naming(
        settings.name.replace("{scale}", scale).replace("{model}", artifact.description.name),
        settings.format or "png",
        settings.recursive,
        settings.overwrite,
        keep,
        source_of,
    )
    planned = plan(inputs, settings.output, naming)
    if settings.quality is not None:
        naming.check_quality(only_result(inputs, settings.output))
    return Work(planned, made_by, journal, of_another)


def _common_folder(inputs: Sequence[str], settings: UpscaleSettings) -> Path | None:
    """The one folder of all results of several images, if there is one."""
    if not is_several(inputs) or (settings.output is not None and os.path.isfile(settings.output)):
        return None
    if settings.output is not None:
        return settings.output
    return Path(inputs[0]) if len(inputs) == 1 and os.path.isdir(inputs[0]) else None


def fingerprint(artifact: Artifact, settings: UpscaleSettings) -> str:
    """Another one wherever results would be others."""
    made_by = {
        "weights": artifact.fingerprint,
        "version": __version__,
        "code": image_code("upscaling"),
        "settings": settings.model_dump(mode="json", exclude=NOT_OF_THE_IMAGE),
    }
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:24]


def upscale_planned(
    upscaler: TiledUpscaler,
    work: Work,
    settings: UpscaleSettings,
    reporter: Reporter = SILENT,
    processes: Processes | None = None,
) -> Outcomes:
    """Work through what `plan_work` returned, or through this process's part of it."""

    def start(planned: Sequence[Planned], journal: Journal | None) -> Outcomes:
        note = noting(work.made_by) if journal is None else note_nothing
        return overlapped(upscaler, planned, settings, journal, reporter, note, work.made_by)

    return _journaled(work, processes or Processes(), start, reporter)


def upscale_on_ray(work: Work, settings: UpscaleSettings, reporter: Reporter = SILENT) -> Outcomes:
    """Work through what `plan_work` returned on the Ray cluster that this machine belongs to, or
    else on one of its own."""
    from passionsr_cli.upscaling import on_ray

    def start(planned: Sequence[Planned], journal: Journal | None) -> Outcomes:
        note = noting(work.made_by)
        read = {item.source: identity(item.source) for item in planned}
        for outcome in on_ray.outcomes(settings, planned, journal):
            if journal is None and isinstance(outcome, Done):
                job = Job(outcome.source, outcome.output)
                note(job, read[outcome.source], outcome.output)
            yield outcome

    return _journaled(work, Processes(), start, reporter)


def _journaled(
    work: Work,
    processes: Processes,
    start: Callable[[Sequence[Planned], Journal | None], Outcomes],
    reporter: Reporter,
) -> Outcomes:
    """This process's part of the work, begun by `start` and kept in the journal.

    When all processes have come to the end, nothing of the journal remains.
    """
    journal = work.journal
    if journal is not None:
        journal = journal.of_writer(str(processes.rank))
    with ExitStack() as stack:
        if journal is not None and processes.is_first:
            stack.enter_context(journal.opened())
        processes.wait()
        for outcome in start(processes.share(work.planned), journal):
            reporter.done(outcome)
            yield outcome
        processes.wait()
        if journal is not None and processes.is_first:
            # While it is held: another run may begin at once.
            journal.close()


def noting(made_by: str) -> Note:
    """Remembers results without a common folder in the cache, before they get their names: else the
    result of a process that was killed in between would be a stranger's."""

    def note(job: Job, read: Identity, result: Path) -> None:
        line = line_of(made_by, job.source, read, job.output, result)
        Finished(job.output.parent, made_by).note([line])

    return note


def overlapped(
    upscaler: TiledUpscaler,
    planned: Sequence[Planned],
    settings: UpscaleSettings,
    journal: Journal | None = None,
    reporter: Reporter = SILENT,
    note: Note = note_nothing,
    made_by: str | None = None,
) -> Outcomes:
    """Outcomes in the order of the plan; `reporter` is called from threads.

    Whoever stops asking for outcomes has the images that are being worked on dropped.
    """
    heard, clock = _UntilStopped(reporter), SharedTime()

    def outcome(item: Planned) -> Outcome:
        if not isinstance(item, Job):
            return without_work(item)
        begun = clock.begun()
        try:
            found = upscale_job(upscaler, item, settings, heard, journal, note, made_by)
        finally:
            seconds = clock.ended(begun)
        return replace(found, seconds=seconds) if isinstance(found, Done) else found

    waiting: deque[Future[Outcome]] = deque()
    pool = ThreadPoolExecutor(IMAGES_AT_ONCE, "image")

    def first() -> Outcome:
        # Until it is there, it is one of those that are waited for when all is dropped.
        done = waiting[0].result()
        waiting.popleft()
        return done

    try:
        for item in planned:
            waiting.append(pool.submit(outcome, item))
            if len(waiting) > IMAGES_AT_ONCE:
                yield first()
        while waiting:
            yield first()
    finally:
        heard.stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        # Converting or compiling a large model takes minutes, and nothing interrupts it.
        wait(waiting, DROPPED_WITHIN_SECONDS)
