"""Rows of the tables of `gpu.py`: what a tile takes on an NVIDIA GPU in one form of a model.

    python tests/quality/gpu_row.py MODEL FORM FOLDER COUNT [--dry]

MODEL is a model's name; one whose weights are not here gets random ones, since speed does not
depend on them. FORM is bf16 or bf16-compiled, which are timed launch by launch and as one CUDA
graph, or bits such as w8a8, whose bounds are those of one crop and which run on Triton's kernels,
as a graph, with bf16 around. COUNT forms get ready side by side, since compiling takes a core
minutes; then each is timed alone, in its turn. FOLDER/MODEL.FORM.json holds the rows; what the GPU
did is printed by kernel. `--dry` is a tiny tile on the CPU.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from filelock import FileLock

from passionsr_cli import methods
from passionsr_cli.benchmark.measurements import integer_flop_share
from passionsr_cli.benchmark.subjects import quantize_min_max
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.data.calibration_images import default_crops
from passionsr_cli.inference.torch_executor import CompiledExecutor, TorchExecutor
from passionsr_cli.models import catalogue, loading
from passionsr_cli.models.costs import layer_costs
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT
from passionsr_cli.system.devices import open_device
from passionsr_cli.triton_kernels.cuda_graphs import Recordings

GRAPH = "-graph"
KERNELS_SHOWN = 32
# How long a form waits for others that are not ready; what crashed never is.
PATIENCE_SECONDS = 240


@dataclass(frozen=True)
class Scale:
    """Where forms run, how large a tile is, and how often it is run first, and then timed."""

    device: str = "cuda"
    precision: str = "bf16"
    size_px: int = 512
    warm_ups: int = 4
    runs: int = 21


DRY = Scale("cpu", "fp32", 64, 1, 1)


def model_of(name: str, device: str) -> OneStepModel:
    """The model on a device, with random weights if it has none here."""
    known = catalogue.find(name)
    if known.folder is not None:
        return loading.load(name).to(device)
    torch.manual_seed(0)
    # Born there: on the CPU it takes minutes.
    with torch.device(device):
        model = OneStepModel(known.description)
        torch.nn.init.normal_(model.context)
    return model.to(device)


def executor_of(
    name: str, form: str, tile: Array, scale: Scale
) -> tuple[TorchExecutor, float | None]:
    """What runs a form, and how far it is from its own definition in dB, if it is on integers."""
    model, used = model_of(name, scale.device), open_device(scale.device, scale.precision)
    if form == "bf16-compiled":
        return _without_graphs(CompiledExecutor(model, used)), None
    if form == "bf16":
        return TorchExecutor(model, used), None
    from passionsr_cli.inference.triton_executor import TritonExecutor

    settings = settings_for(form, None, {"model": name, "method": "maxmin"})
    image = torch.from_numpy(tile).to(scale.device)
    quantize_min_max(model, settings, methods.build(settings).design, image)
    definition = TorchExecutor(copy.deepcopy(model), used)
    wanted = definition.decode(definition.restore_latent(tile))
    del definition
    executor = TritonExecutor(model, used)
    error = float(np.square(executor.decode(executor.restore_latent(tile)) - wanted).mean())
    return executor, -10 * math.log10(max(error, 1e-14))


def _without_graphs(executor: TorchExecutor) -> TorchExecutor:
    executor._recordings = None
    return executor


def on_device(executor: TorchExecutor, x: torch.Tensor) -> torch.Tensor:
    """A tile without its way to the GPU and back."""
    with torch.inference_mode(), executor._autocast():
        latent = executor._call(executor._restored, x, None)
        return executor._call(executor._decoded, latent.float())


def seconds_of(run: Callable[[], object], scale: Scale) -> float:
    """The median of runs, once all is warm."""
    times = []
    for _ in range(scale.warm_ups + scale.runs):
        _synchronize(scale)
        started = time.perf_counter()
        run()
        _synchronize(scale)
        times.append(time.perf_counter() - started)
    return median(times[scale.warm_ups :])


def _synchronize(scale: Scale) -> None:
    if scale.device == "cuda":
        torch.cuda.synchronize()


def kernels_of(run: Callable[[], object]) -> list[str]:
    """What the GPU did in a run, the longest first."""
    from torch.profiler import ProfilerActivity, profile

    run()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    rows = sorted(seen.key_averages(), key=lambda row: -row.self_device_time_total)
    total = sum(row.self_device_time_total for row in rows)
    shown = rows[:KERNELS_SHOWN]
    return [f"{total / 1000:9.3f} ms in all"] + [
        f"{row.self_device_time_total / 1000:9.3f} ms {row.count:5} × {row.key[:100]}"
        for row in shown
    ]


def measured(executor: TorchExecutor, tile: Array, scale: Scale) -> dict[str, float]:
    """Seconds of a tile, with and without its way to the GPU and back, and bytes at the peak."""
    x = torch.from_numpy(tile).to(scale.device)
    if scale.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return {
        "seconds": seconds_of(lambda: executor.decode(executor.restore_latent(tile)), scale),
        "seconds_on_the_gpu": seconds_of(lambda: on_device(executor, x), scale),
        "peak_memory_bytes": executor.peak_memory_bytes(),
    }


def wait_for_others(folder: Path, count: int) -> None:
    """Return when so many forms are ready, or out of the way, or waited for in vain."""
    end = time.monotonic() + PATIENCE_SECONDS
    while len(list(folder.glob("*.ready"))) < count and time.monotonic() < end:
        time.sleep(0.1)


def main(name: str, form: str, folder: Path, count: int, scale: Scale) -> None:
    """Get ready, wait, measure."""
    place = folder / f"{name}.{form}"
    description = catalogue.find(name).description
    tile = default_crops(description, scale.size_px, 1)[0].numpy()
    try:
        executor, psnr_db = executor_of(name, form, tile, scale)
        for _ in range(scale.warm_ups):
            executor.decode(executor.restore_latent(tile))
    finally:
        Path(f"{place}.ready").touch()
    wait_for_others(folder, count)
    with torch.device("meta"):
        costs = layer_costs(OneStepModel(description), scale.size_px)
    about = {
        "model": name,
        "gpu": torch.cuda.get_device_name() if scale.device == "cuda" else "none",
        "torch": torch.__version__,
        "integer_share": integer_flop_share(costs, executor.kernels()),
        "psnr_to_definition_db": psnr_db,
    }
    with FileLock(folder / "turn"):
        rows = [{"form": form, **about, **measured(executor, tile, scale)}]
        if form.startswith("bf16") and scale.device == "cuda":
            executor._recordings = Recordings(SILENT)
            rows.append({"form": form + GRAPH, **about, **measured(executor, tile, scale)})
        Path(f"{place}.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
        if scale.device == "cuda":
            # A graph is one launch: kernel by kernel it runs without.
            x = torch.from_numpy(tile).to(scale.device)
            plain = _without_graphs(executor)
            print(*kernels_of(lambda: on_device(plain, x)), sep="\n", flush=True)


if __name__ == "__main__":
    scale = DRY if "--dry" in sys.argv else Scale()
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), scale)
