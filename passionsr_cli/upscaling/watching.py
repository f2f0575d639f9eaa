"""Folders that grow: new images are upscaled as they arrive, once they are whole."""

from __future__ import annotations

import time
from collections.abc import Sequence

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.finished import Identity, identity
from passionsr_cli.upscaling.images import Done, Failed, upscale_job
from passionsr_cli.upscaling.planning import Job, Present, Refused, is_several
from passionsr_cli.upscaling.run import Outcomes, noting, plan_work

LOOK_EVERY_SECONDS = 1.0


def watch(
    upscaler: TiledUpscaler,
    inputs: Sequence[str],
    settings: UpscaleSettings,
    reporter: Reporter = SILENT,
    every_seconds: float = LOOK_EVERY_SECONDS,
) -> Outcomes:
    """Outcomes of the images that are in the inputs without a result, or come there, without end.

    A file is worked on when two looks found it with the same size and time. One that cannot be
    upscaled is told of once, and tried again when it has changed. What cannot even be planned, such
    as a second image of one result's name, is told of once, too, and so is an image whose result is
    there, but was made of another one.
    """
    settings = settings.model_copy(update={"skip_existing": True})
    seen: dict[str, Identity] = {}
    failed: dict[Job | Present, Identity] = {}
    told: set[str] = set()
    while True:
        work = plan_work(inputs, settings)
        for item in work.planned:
            # That a folder holds no image yet is no failure.
            empty = item.source in inputs and is_several([item.source])
            if isinstance(item, Refused) and not empty and str(item.error) not in told:
                told.add(str(item.error))
                yield Failed(item.source, str(item.error))
        note = noting(work.made_by)
        for item in work.planned:
            if isinstance(item, Refused):
                continue
            if isinstance(item, Present) and not work.is_of_another(item.source, item.output):
                continue
            found = identity(item.source)
            if found is None or failed.get(item) == found:
                continue
            if seen.get(item.source) != found:
                seen[item.source] = found
                continue
            if isinstance(item, Present):
                outcome: Done | Failed = _outdated(item)
            else:
                made_by = work.made_by
                outcome = upscale_job(upscaler, item, settings, reporter, None, note, made_by)
            if isinstance(outcome, Failed):
                failed[item] = found
            reporter.done(outcome)
            yield outcome
        time.sleep(every_seconds)


def _outdated(item: Present) -> Failed:
    message = (
        f"{item.source}: its result {item.output} is of another image, or of this one before it "
        "changed; remove that, and it is upscaled"
    )
    return Failed(item.source, message)
