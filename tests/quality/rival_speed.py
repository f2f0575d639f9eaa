"""How fast other upscalers are beside `mini`, all in one run, taking turns.

    python tests/quality/rival_speed.py [RUNS]

One image of 128×128 to 512×512, the network alone; `mini` sees it with its margin, as `upscale`
computes it (576 pixels). Real-ESRGAN's x4plus (Wang et al., 2021, arXiv 2107.10833) and the compact
network of its later releases have random weights, on which speed does not depend; in int8 each
convolution's input is rounded to 256 levels. NNCF's row needs `pip install '.[nncf]'`. The first
turn, in which PyTorch compiles, is not measured. The seconds of all cores together hold on a busy
machine, too, where those of the clock do not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from passionsr_cli.benchmark.variants import has_nncf
from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.imaging.arrays import Array
from passionsr_cli.inference.core import DEVICE, core
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.open import open_executor, open_nncf
from passionsr_cli.inference.torch_executor import CompiledExecutor
from passionsr_cli.progress import SILENT
from passionsr_cli.system.devices import accelerator

SIDE_PX, SCALE = 128, 4
CHANNELS, GROWTH, BLOCKS, COMPACT_LAYERS = 64, 32, 23, 32
Node = Any


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


def contestants() -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    model, checkpoint = resolve("mini"), resolve("mini-w8a8")
    side = SIDE_PX * SCALE + 2 * model.description.margin_px
    tile = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    compiled = CompiledExecutor(model.load(), accelerator("cpu", "bf16"))
    executors: dict[str, Executor] = {
        "mini W8A8": open_executor(checkpoint, "openvino", "cpu", "fp32", SILENT),
        "mini W8A8, bf16 around": open_executor(checkpoint, "openvino", "cpu", "bf16", SILENT),
        "mini bf16": open_executor(model, "openvino", "cpu", "bf16", SILENT),
        "mini, PyTorch bf16": open_executor(model, "torch", "cpu", "bf16", SILENT),
        "mini, PyTorch bf16, compiled": compiled,
    }
    if has_nncf():
        executors["mini, NNCF's int8"] = open_nncf(model, "fp32", SILENT)
    found = {name: _ours(executor, tile) for name, executor in executors.items()}
    for build in (compact, x4plus):
        for kind, on_integers in (("bf16", False), ("int8", True)):
            found[f"{build.__name__} {kind}"] = rival(build, on_integers)
    return found


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    found = contestants()
    seconds: dict[str, list[float]] = {name: [] for name in found}
    work: dict[str, list[float]] = {name: [] for name in found}
    for run in range(-1, runs):
        for name, infer in found.items():
            started, used = time.perf_counter(), time.process_time()
            infer()
            if run >= 0:
                seconds[name].append(time.perf_counter() - started)
                work[name].append(time.process_time() - used)
    ours = median(work["mini W8A8"])
    print("| | seconds | of all cores together | of W8A8's |\n|---|---|---|---|")
    for name, values in seconds.items():
        cores = median(work[name])
        print(f"| {name} | {median(values):.3f} | {cores:.3f} | {cores / ours:.2f} |", flush=True)


if __name__ == "__main__":
    main()
