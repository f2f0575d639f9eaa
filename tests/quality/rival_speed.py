"""How fast other upscalers are beside `mini`, all in one run, taking turns.

    python tests/quality/rival_speed.py [RUNS [FILE]]

One image of 128×128 to 512×512, the network alone; `mini` sees it with its margin, as `upscale`
computes it (576 pixels). Real-ESRGAN's x4plus (Wang et al., 2021, arXiv 2107.10833) and the compact
network of its later releases have random weights, on which speed does not depend; in int8 each
convolution's input is rounded to 256 levels. NNCF's row needs `pip install '.[nncf]'`. The first
turn, in which PyTorch compiles, is not measured. The seconds of all cores together hold on a busy
machine, too, where those of the clock do not. FILE gets the rows and the machine's facts, as
`bench --json` prints them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from passionsr_cli.benchmark.hardware import measure_machine
from passionsr_cli.benchmark.measurements import Measurement
from passionsr_cli.benchmark.run import Report
from passionsr_cli.benchmark.variants import has_nncf
from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.graphs.core import DEVICE, core
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.open import open_executor, open_nncf
from passionsr_cli.inference.torch_executor import CompiledExecutor
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT
from passionsr_cli.system.devices import open_device

SIDE_PX, SCALE = 128, 4
CHANNELS, GROWTH, BLOCKS, COMPACT_LAYERS = 64, 32, 23, 32
Node = Any
# Model, backend, variant and precision around integers, as a row of `bench` has them.
Row = tuple[str, str, str, str]


class Network:
    """Convolutions with random weights, in int8 if asked for, and a count of their operations."""

    def __init__(self, on_integers: bool) -> None:
        self.on_integers, self.operations = on_integers, 0
        self.generator = np.random.default_rng(0)

    def convolution(self, x: Node, outputs: int) -> Node:
        """3×3, as large as its input."""
        inputs, height, width = list(x.output(0).shape)[1:]
        shape = [outputs, inputs, 3, 3]
        self.operations += 2 * height * width * int(np.prod(shape))
        deviation = (9 * inputs) ** -0.5
        if self.on_integers:
            bounds = [ops.constant(np.float32(bound)) for bound in (-4.0, 4.0 * 127 / 128)]
            x = ops.fake_quantize(x, *bounds, *bounds, 256)
            codes = self.generator.integers(-127, 128, shape).astype(np.int8)
            scale = np.full([outputs, 1, 1, 1], deviation / 73, np.float32)
            weight = ops.multiply(ops.convert(ops.constant(codes), "f32"), ops.constant(scale))
        else:
            values = self.generator.standard_normal(shape) * deviation
            weight = ops.constant(values.astype(np.float32))
        bias = ops.constant(np.zeros([1, outputs, 1, 1], np.float32))
        return ops.add(ops.convolution(x, weight, [1, 1], [1, 1], [1, 1], [1, 1]), bias)


def _leaky(x: Node) -> Node:
    return ops.prelu(x, ops.constant(np.float32([0.2])))


def _nearest(x: Node, factor: int) -> Node:
    sides = [factor * side for side in list(x.output(0).shape)[2:]]
    return ops.interpolate(x, sides, "nearest", "sizes", axes=[2, 3])


def compact(network: Network, x: Node) -> Node:
    """Convolutions at the input's size alone, then pixels out of channels."""
    hidden = _leaky(network.convolution(x, CHANNELS))
    for _ in range(COMPACT_LAYERS):
        hidden = _leaky(network.convolution(hidden, CHANNELS))
    pixels = ops.depth_to_space(network.convolution(hidden, 48), "depth_first", SCALE)
    return ops.add(pixels, _nearest(x, SCALE))


def x4plus(network: Network, x: Node) -> Node:
    """Residual dense blocks in residual blocks."""

    def dense(start: Node) -> Node:
        seen = [start]
        for _ in range(4):
            joined = ops.concat(seen, 1) if len(seen) > 1 else start
            seen.append(_leaky(network.convolution(joined, GROWTH)))
        last = network.convolution(ops.concat(seen, 1), CHANNELS)
        return ops.add(start, ops.multiply(last, np.float32(0.2)))

    first = hidden = network.convolution(x, CHANNELS)
    for _ in range(BLOCKS):
        hidden = ops.add(hidden, ops.multiply(dense(dense(dense(hidden))), np.float32(0.2)))
    hidden = ops.add(first, network.convolution(hidden, CHANNELS))
    for _ in range(2):
        hidden = _leaky(network.convolution(_nearest(hidden, 2), CHANNELS))
    return network.convolution(_leaky(network.convolution(hidden, CHANNELS)), 3)


def rival(build: Callable[[Network, Node], Node], on_integers: bool) -> Callable[[], object]:
    """A network as OpenVINO runs it, bf16 where it is not integers."""
    network = Network(on_integers)
    source = ops.parameter([1, 3, SIDE_PX, SIDE_PX], np.float32)
    model = openvino.Model([build(network, source)], [source])
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    request = core().compile_model(model, DEVICE, settings).create_infer_request()
    image = np.random.default_rng(0).random((1, 3, SIDE_PX, SIDE_PX), np.float32)
    print(f"{build.__name__}: {network.operations / 1e9:.0f} GFLOP", file=sys.stderr)
    return lambda: request.infer([image])


def _ours(executor: Executor, tile: Array) -> Callable[[], object]:
    return lambda: executor.decode(executor.restore_latent(tile))


def contestants() -> dict[Row, Callable[[], object]]:
    """What is measured."""
    model, checkpoint = resolve("mini"), resolve("mini-w8a8")
    side = SIDE_PX * SCALE + 2 * model.description.margin_px
    tile = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    compiled = CompiledExecutor(model.load(), open_device("cpu", "bf16"))
    executors: dict[Row, Executor] = {
        ("mini", "openvino", "w8a8", "fp32"): _opened(checkpoint, "openvino", "fp32"),
        ("mini", "openvino", "w8a8", "bf16"): _opened(checkpoint, "openvino", "bf16"),
        ("mini", "openvino", "bf16", "bf16"): _opened(model, "openvino", "bf16"),
        ("mini", "torch", "bf16", "bf16"): _opened(model, "torch", "bf16"),
        ("mini", "torch", "bf16-compiled", "bf16"): compiled,
    }
    if has_nncf():
        for precision in ("fp32", "bf16"):
            executor = open_nncf(model, precision, SILENT)
            executors["mini", "openvino", "nncf", precision] = executor
    found = {row: _ours(executor, tile) for row, executor in executors.items()}
    for build in (compact, x4plus):
        for kind, on_integers in (("bf16", False), ("int8", True)):
            found[build.__name__, "openvino", kind, "bf16"] = rival(build, on_integers)
    return found


def _opened(artifact: Artifact, backend: str, precision: str) -> Executor:
    return open_executor(artifact, backend, "cpu", precision, SILENT)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    found = contestants()
    seconds: dict[Row, list[float]] = {row: [] for row in found}
    work: dict[Row, list[float]] = {row: [] for row in found}
    for run in range(-1, runs):
        for row, infer in found.items():
            started, used = time.perf_counter(), time.process_time()
            infer()
            if run >= 0:
                seconds[row].append(time.perf_counter() - started)
                work[row].append(time.process_time() - used)
    ours = median(next(iter(work.values())))
    print("| model | backend | variant | around | seconds | of all cores together | of W8A8's |")
    print("|---|---|---|---|---|---|---|")
    for row, values in seconds.items():
        cores = median(work[row])
        times = f"{median(values):.3f} | {cores:.3f} | {cores / ours:.2f}"
        print(f"| {' | '.join(row)} | {times} |", flush=True)
    if len(sys.argv) > 2:
        rows = [_measurement(row, values) for row, values in seconds.items()]
        report = Report(measure_machine(), rows).as_dict()
        Path(sys.argv[2]).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _measurement(row: Row, values: list[float]) -> Measurement:
    model, backend, variant, precision = row
    return Measurement(
        model=model,
        backend=backend,
        variant=variant,
        size=SIDE_PX * SCALE,
        device="cpu",
        precision=precision,
        seconds=median(values),
        runs=len(values),
        seconds_min=min(values),
        seconds_max=max(values),
    )


if __name__ == "__main__":
    main()
