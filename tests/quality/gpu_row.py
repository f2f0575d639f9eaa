"""Rows of the tables of `gpu.py`: what a tile takes on an NVIDIA GPU in one form of a model.

    python tests/quality/gpu_row.py MODEL FORM FOLDER

MODEL is a model's name; one whose weights are not here gets random ones, since speed does not
depend on them. FORM is bf16 or bf16-compiled, which are timed launch by launch and as one CUDA
graph, or bits such as w8a8, whose bounds are those of one crop and which run on Triton's kernels,
as a graph, with bf16 around. What has to be compiled is, first; then FOLDER/MODEL.FORM.ready is
written, and FOLDER/MODEL.FORM.go is waited for: so forms get ready side by side and are timed one
after the other. FOLDER/MODEL.FORM.json holds the rows; what the GPU did is printed by kernel.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from accelerate.utils import AutocastKwargs

from passionsr_cli import methods
from passionsr_cli.benchmark.measurements import integer_flop_share
from passionsr_cli.benchmark.subjects import quantize_min_max
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.data.calibration_images import default_crops
from passionsr_cli.imaging.arrays import Array
from passionsr_cli.inference.cuda_graphs import Recordings
from passionsr_cli.inference.torch_executor import CompiledExecutor, TorchExecutor
from passionsr_cli.models import catalogue, loading
from passionsr_cli.models.costs import layer_costs
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT
from passionsr_cli.system.devices import accelerator

DEVICE, SIZE_PX = "cuda", 512
WARM_UPS, RUNS = 4, 21
GRAPH = "-graph"
KERNELS_SHOWN = 32


def model_of(name: str) -> OneStepModel:
    """The model on the GPU, with random weights if it has none here."""
    known = catalogue.find(name)
    if known.folder is not None:
        return loading.load(name).to(DEVICE)
    torch.manual_seed(0)
    # Born there: on the CPU it takes minutes.
    with torch.device(DEVICE):
        model = OneStepModel(known.description)
        torch.nn.init.normal_(model.context)
    return model.to(DEVICE)


def executor_of(name: str, form: str, tile: Array) -> tuple[TorchExecutor, float | None]:
    """What runs a form, and how far it is from its own definition in dB, if it is on integers."""
    model, used = model_of(name), accelerator(DEVICE, "bf16")
    if form == "bf16-compiled":
        return CompiledExecutor(model, used), None
    if form == "bf16":
        return TorchExecutor(model, used), None
    from passionsr_cli.inference.triton_executor import TritonExecutor

    settings = settings_for(form, None, {"model": name, "method": "maxmin"})
    image = torch.from_numpy(tile).to(DEVICE)
    quantize_min_max(model, settings, methods.build(settings).design, image)
    definition = TorchExecutor(copy.deepcopy(model), used)
    wanted = definition.decode(definition.restore_latent(tile))
    del definition
    executor = TritonExecutor(model, used)
    error = float(np.square(executor.decode(executor.restore_latent(tile)) - wanted).mean())
    return executor, -10 * math.log10(max(error, 1e-14))


def launched_as_graphs(executor: TorchExecutor) -> None:
    """Make an executor record what it launches."""
    recordings, launch = Recordings(SILENT), executor._call
    named: dict[str, Callable[..., torch.Tensor]] = {}

    def call(function: Any, x: torch.Tensor, *constants: Any) -> torch.Tensor:
        name = function.__name__
        if name not in named:
            named[name] = lambda y, *others: launch(function, y, *others)
            named[name].__name__ = name
        return recordings(named[name], x, *constants)

    executor._call = call  # type: ignore[method-assign]


def on_device(executor: TorchExecutor, x: torch.Tensor) -> torch.Tensor:
    """A tile without its way to the GPU and back."""
    autocast = executor._accelerator.autocast(AutocastKwargs(cache_enabled=False))
    with torch.inference_mode(), autocast:
        latent = executor._call(executor._restored, x, None)
        return executor._call(executor._decoded, latent.float())


def seconds_of(run: Callable[[], object]) -> float:
    """The median of runs, once all is warm."""
    times = []
    for _ in range(WARM_UPS + RUNS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times[WARM_UPS:])


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


def measured(executor: TorchExecutor, tile: Array) -> dict[str, float]:
    """Seconds of a tile, with and without its way to the GPU and back, and bytes at the peak."""
    x = torch.from_numpy(tile).to(DEVICE)
    torch.cuda.reset_peak_memory_stats()
    return {
        "seconds": seconds_of(lambda: executor.decode(executor.restore_latent(tile))),
        "seconds_on_the_gpu": seconds_of(lambda: on_device(executor, x)),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
    }


def main(name: str, form: str, folder: Path) -> None:
    """Get ready, wait, measure."""
    place = folder / f"{name}.{form}"
    description = catalogue.find(name).description
    tile = default_crops(description, SIZE_PX, 1)[0].numpy()
    executor, psnr_db = executor_of(name, form, tile)
    for _ in range(WARM_UPS):
        executor.decode(executor.restore_latent(tile))
    Path(f"{place}.ready").touch()
    while not Path(f"{place}.go").exists():
        time.sleep(0.05)
    with torch.device("meta"):
        costs = layer_costs(OneStepModel(description), SIZE_PX)
    about = {
        "model": name,
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "integer_share": integer_flop_share(costs, executor.kernels()),
        "psnr_to_definition_db": psnr_db,
    }
    rows = [{"form": form, **about, **measured(executor, tile)}]
    launch = executor._call
    if form.startswith("bf16"):
        launched_as_graphs(executor)
        rows.append({"form": form + GRAPH, **about, **measured(executor, tile)})
    Path(f"{place}.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(json.dumps(rows), flush=True)
    # A graph is one launch: kernel by kernel it runs without.
    executor._call = launch  # type: ignore[method-assign]
    if hasattr(executor, "_recordings"):
        executor._recordings = None
    x = torch.from_numpy(tile).to(DEVICE)
    print(*kernels_of(lambda: on_device(executor, x)), sep="\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
