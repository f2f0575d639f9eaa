"""The same work on one image, handed to Ray Data: its scheduler, its retries, its machines."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.upscaling.images import open_upscaler, upscale_job, without_work
from passionsr_cli.upscaling.journal import Journal
from passionsr_cli.upscaling.planning import Job, Planned
from passionsr_cli.upscaling.run import Outcomes


class Worker:
    """An upscaler in a process of Ray's; it takes and gives pickles, since names of files need
    not be text."""

    def __init__(self, settings: UpscaleSettings, journal: tuple[Path, str] | None) -> None:
        import ray
        import torch

        # Ray would leave it one core.
        torch.set_num_threads(os.cpu_count() or 1)
        self.settings, self.upscaler = settings, open_upscaler(settings)
        writer = f"ray-{ray.get_runtime_context().get_actor_id()}"
        self.journal = None if journal is None else Journal(*journal, writer)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        outcome = upscale_job(
            self.upscaler, pickle.loads(row["job"]), self.settings, journal=self.journal
        )
        return {"outcome": pickle.dumps(outcome)}


def outcomes(
    settings: UpscaleSettings, planned: Sequence[Planned], journal: Journal | None
) -> Outcomes:
    """Outcomes of Ray as they come, in no order.

    Every machine must see the files under the same names.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("--engine ray needs Ray: pip install 'ray[data]'") from None
    jobs = []
    for item in planned:
        if isinstance(item, Job):
            jobs.append({"job": pickle.dumps(item)})
        else:
            yield without_work(item)
    if not jobs:
        return
    if not ray.is_initialized():
        # It would report to its makers what it runs on.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    # A worker takes a GPU, or else all the cores of a machine as it needs them.
    machines = len(ray.nodes())
    workers = min(gpus or machines, len(jobs))
    results = ray.data.from_items(jobs).map(
        Worker,
        fn_constructor_args=(settings, journal and (journal.root, journal.made_by)),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=1 if gpus else 0,
    )
    for row in results.iter_rows():
        yield pickle.loads(row["outcome"])
