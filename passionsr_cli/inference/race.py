"""A race on a GPU at first use: does a checkpoint run on integers faster than compiled bf16 would?

The rival is the checkpoint's own model without its rounding, in bf16, channels last, compiled by
torch. All of it runs in a process of its own, since what goes wrong on a GPU spoils it for the
rest of a process. What came out is kept for this GPU, checkpoint, precision and code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.errors import DeviceError, PassionSRError
from passionsr_cli.graphs.made_by import graph_code
from passionsr_cli.inference.executor import Executor
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import Reporter
from passionsr_cli.store import CHECKPOINT
from passionsr_cli.system.children import run_child
from passionsr_cli.system.devices import cuda_driver_version, open_device
from passionsr_cli.system.files import read_json, replace_atomically
from passionsr_cli.system.memory import is_out_of_memory
from passionsr_cli.system.paths import cache_folder

# What models are made for.
TILE_PX = 512
# The first run tunes, the second records a graph or compiles what is left, the third is warm.
WARM_UPS, RUNS = 3, 5
# Integers and definition differ by codes midway between two; what is further off is a fault.
LEAST_PSNR_DB = 40.0


class Verdict(BaseModel):
    """Verdict of a race: the backend that runs a checkpoint on this GPU, and the reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_integers: bool
    reason: str


def choose_arithmetic(
    artifact: Artifact, device: str, precision: str, reporter: Reporter
) -> Verdict:
    """The verdict by which `auto` takes Triton's kernels for a checkpoint on a CUDA device or not.

    The first time it takes minutes. A race that fails decides for simulation; one that found too
    little memory, for this time.
    """
    verdict = _verdict(artifact, device, precision, reporter)
    how = "on integers" if verdict.on_integers else "simulated in floating point"
    reporter.note(f"{how}: {verdict.reason}")
    return verdict


def _verdict(artifact: Artifact, device: str, precision: str, reporter: Reporter) -> Verdict:
    try:
        path = _place(artifact, device, precision)
    except DeviceError as error:
        return Verdict(on_integers=False, reason=str(error).partition(";")[0])
    verdict = _read(path)
    if verdict is not None:
        return verdict
    reporter.note(
        f"first use of {artifact.entry.name} on this GPU: a race of integers against compiled "
        "bf16 decides what runs it from now on; this takes minutes"
    )
    with _alone(path.parent):
        # Of several processes, as of several equal GPUs, one has raced for all of them.
        return _read(path) or _held(path, artifact, device, precision)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold no race beside another process's, which would time each other."""
    lock = FileLock(folder / "lock")
    # Where nothing can be written, nobody can be waited for.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _held(path: Path, artifact: Artifact, device: str, precision: str) -> Verdict:
    """The verdict of a race that is held now, kept in `path`."""
    arguments = {"folder": str(artifact.entry.folder), "device": device, "precision": precision}
    try:
        measured: dict[str, Any] = run_child(f"{__name__}:race", arguments)
        verdict, lasts = judge(**measured), True
    except PassionSRError as error:
        verdict = Verdict(on_integers=False, reason=f"the race failed ({error})")
        # Others may have had the memory.
        lasts = not is_out_of_memory(RuntimeError(str(error)))
    if lasts:
        with suppress(OSError), replace_atomically(path) as temporary:
            temporary.write_text(verdict.model_dump_json(), encoding="utf-8")
    return verdict


def _place(artifact: Artifact, device: str, precision: str) -> Path:
    """The file of a verdict. Raises `DeviceError` where there can be no race."""
    if importlib.util.find_spec("triton") is None:
        raise DeviceError("Triton is not installed; it comes with torch for CUDA, on Linux")
    from passionsr_cli.inference.triton_executor import check_device

    check_device(device)
    return verdict_file("race", artifact, device, precision)


def verdict_file(kind: str, artifact: Artifact, device: str, precision: str) -> Path:
    """The file of what was measured of a model or checkpoint on a GPU with Triton."""
    import torch
    import triton

    made_by = [
        artifact.fingerprint,
        precision,
        torch.cuda.get_device_name(device),
        cuda_driver_version(),
        torch.__version__,
        triton.__version__,
        graph_code(),
    ]
    key = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:24]
    return cache_folder() / "triton" / f"{kind}-{key}.json"


def _read(path: Path) -> Verdict | None:
    try:
        return Verdict.model_validate(read_json(path))
    except (OSError, ValueError):
        return None


def judge(integers: float, floating: float, psnr_db: float) -> Verdict:
    """The verdict on seconds a tile of both, and on how near integers are to the definition."""
    if not psnr_db >= LEAST_PSNR_DB:
        reason = f"integers are {psnr_db:.1f} dB from the definition on this GPU, which is a fault"
        return Verdict(on_integers=False, reason=reason)
    times = f"{integers:.4f} s a tile, compiled bf16 {floating:.4f} s"
    if integers < floating:
        return Verdict(on_integers=True, reason=times)
    reason = f"integers take {times}; --backend triton runs them, --checkpoint none bf16"
    return Verdict(on_integers=False, reason=reason)


def race(folder: str, device: str, precision: str, tile_px: int = TILE_PX) -> dict[str, float]:
    """Seconds a tile of both, and PSNR in dB of integers and definition: what `judge` takes."""
    from passionsr_cli.data.calibration_images import default_crops
    from passionsr_cli.inference.torch_executor import CompiledExecutor, TorchExecutor
    from passionsr_cli.inference.triton_executor import TritonExecutor
    from passionsr_cli.layers.floating import floating_twin

    artifact = resolve(folder, CHECKPOINT)
    tile = default_crops(artifact.description, tile_px, 1)[0].numpy()
    integers, image = _timed(TritonExecutor(artifact.load(), open_device(device, precision)), tile)
    definition = TorchExecutor(artifact.load(), open_device(device, precision))
    error = float(np.square(definition.decode(definition.restore_latent(tile)) - image).mean())
    del definition
    rival = CompiledExecutor(floating_twin(artifact.load()), open_device(device, "bf16"))
    floating, _ = _timed(rival, tile)
    # Equal images are as near as float32 can say.
    psnr_db = -10 * math.log10(max(error, float(np.finfo(np.float32).eps) ** 2))
    return {"integers": integers, "floating": floating, "psnr_db": psnr_db}


def _timed(executor: Executor, tile: Array) -> tuple[float, Array]:
    """The median of seconds for a tile once all is warm, and its image."""
    seconds = []
    for _ in range(WARM_UPS + RUNS):
        started = time.perf_counter()
        image = executor.decode(executor.restore_latent(tile))
        seconds.append(time.perf_counter() - started)
    return median(seconds[WARM_UPS:]), image
