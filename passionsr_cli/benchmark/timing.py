"""Timing the tiles of one row, in a process of its own."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.data.calibration_images import default_crops
from passionsr_cli.errors import ModelError
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.open import open_executor
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT, Notes, Reporter

FEWEST_RUNS, FEWEST_SLOW_RUNS = 5, 3
SLOW_SECONDS = 10.0
LEAST_SECONDS = 2.0


@dataclass(frozen=True)
class Run:
    """One thing to time: the model or checkpoint of a name or folder, how, and for which tile.

    `graphs` is a folder of converted graphs to use instead of the cache. `nchw` is torch's
    default layout, contiguous (N, C, H, W), `compiled` says that torch compiles.
    """

    artifact: str
    graphs: str | None
    backend: str
    device: str
    precision: str
    nchw: bool
    compiled: bool
    size: int


def first_tile(run: dict[str, Any]) -> dict[str, Any]:
    """Time the opening of an executor and its first tile, in a process that has just started.

    Libraries are imported before the clock starts.
    """
    opened = Run(**run)
    _import_libraries(opened.backend, loads=True)
    return {"first_tile_seconds": _first_tile(opened, SILENT)[0]}


def time_tiles(run: dict[str, Any], repeats: int | None) -> dict[str, Any]:
    """`first_tile`, then a warm-up and repeated runs, and what was seen on the way.

    The peak memory is that of this process: a backend that starts from a cache neither loads nor
    converts the model in it.
    """
    opened, notes = Run(**run), Notes()
    _import_libraries(opened.backend, loads=opened.backend != "openvino")
    first, executor, tile = _first_tile(opened, notes)
    seconds = repeat(lambda: run_tile(executor, tile), repeats)
    return {
        "first_tile_seconds": first,
        "seconds": seconds,
        "peak_memory_bytes": executor.peak_memory_bytes(),
        "ran": asdict(executor.kernels()),
        "device": executor.device,
        "notes": notes.texts,
    }


def run_tile(executor: Executor, tile: Array) -> float:
    """Seconds for one tile (1, 3, H, W) through encoder, UNet, x₀ and decoder."""
    started = time.perf_counter()
    image = executor.decode(executor.restore_latent(tile))
    seconds = time.perf_counter() - started
    if not np.isfinite(image).all():
        raise ModelError("the image is not finite; its time would mean nothing")
    return seconds


def repeat(run: Callable[[], float], repeats: int | None) -> list[float]:
    """Warm up, then collect seconds: as many as asked for, or as `BenchmarkSettings` says."""
    warm_up = run()
    # After the first tile a second one warms up nothing that a slow run would notice.
    seconds = [warm_up] if warm_up > SLOW_SECONDS else []
    while not _enough(seconds, repeats):
        seconds.append(run())
    return seconds


def _enough(seconds: list[float], repeats: int | None) -> bool:
    if repeats is not None:
        return len(seconds) >= repeats
    if len(seconds) >= FEWEST_SLOW_RUNS and median(seconds) > SLOW_SECONDS:
        return True
    return len(seconds) >= FEWEST_RUNS and sum(seconds) >= LEAST_SECONDS


def _first_tile(run: Run, reporter: Reporter) -> tuple[float, Executor, Array]:
    artifact = resolve(run.artifact)
    tile = default_crops(artifact.description, run.size, 1)[0].numpy()
    started = time.perf_counter()
    executor = _open(run, artifact, reporter)
    run_tile(executor, tile)
    return time.perf_counter() - started, executor, tile


def _open(run: Run, artifact: Artifact, reporter: Reporter) -> Executor:
    if run.graphs is not None:
        from passionsr_cli.graphs.graph_cache import GraphCache
        from passionsr_cli.inference.openvino_executor import OpenVINOExecutor

        cache = GraphCache(Path(run.graphs), artifact.load, reporter)
        return OpenVINOExecutor(artifact.description, cache, run.precision)
    if run.nchw or run.compiled:
        import torch

        from passionsr_cli.inference.torch_executor import CompiledExecutor, TorchExecutor
        from passionsr_cli.system.devices import open_device

        used = open_device(run.device, run.precision)
        if run.compiled:
            return CompiledExecutor(artifact.load(), used)
        return TorchExecutor(artifact.load(), used, torch.contiguous_format)
    return open_executor(artifact, run.backend, run.device, run.precision, reporter)


def _import_libraries(backend: str, loads: bool) -> None:
    """Import what the clock must not see; `loads` says that the model itself will be loaded."""
    names = ["passionsr_cli.inference.torch_executor"]
    if backend == "openvino":
        names = ["passionsr_cli.inference.openvino_executor"]
    if backend == "triton":
        names = ["passionsr_cli.inference.triton_executor"]
    if loads:
        models = ("autoencoders.autoencoder_kl", "unets.unet_2d_condition")
        names += [f"diffusers.models.{name}" for name in models]
    for name in names:
        importlib.import_module(name)
