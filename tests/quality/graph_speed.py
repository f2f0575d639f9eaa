"""What rewriting OpenVINO's graphs gains, each way against the unchanged graph in one run.

    python tests/quality/graph_speed.py FOLDER [SIZE]

FOLDER is an `openvino` export for any size. Then attention products at Stable Diffusion's sizes,
on integers and in floating point.
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

from passionsr_cli.conversion import graph_passes

RUNS = 6
ATTENTIONS = {"UNet 64²": (5, 4096, 64), "UNet 32²": (10, 1024, 64), "VAE": (1, 4096, 512)}
Rewrite = Callable[[Any], None]


def _of_type(kind: str, rewrite: Rewrite) -> Rewrite:
    def run(model: Any) -> None:
        for node in model.get_ordered_ops():
            if node.get_type_name() == kind:
                rewrite(node)
        model.validate_nodes_and_infer_types()

    return run


REWRITES: dict[str, Rewrite] = {
    "unchanged": lambda model: None,
    "normalized by channels": _of_type("GroupNormalization", graph_passes._normalize_by_channels),
    "convolved in strips": _of_type("Convolution", graph_passes._convolve_in_strips),
    "both": graph_passes.fit_to_cpu,
}


def _request(model: Any, precision: str) -> Any:
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()


def _medians(requests: dict[str, Any], inputs: list[Any]) -> dict[str, float]:
    """Seconds, the forms taking turns so that whatever else happens meets them all."""
    seconds: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(RUNS):
        for name, request in requests.items():
            started = time.perf_counter()
            request.infer(inputs)
            seconds[name].append(time.perf_counter() - started)
    return {name: median(values[1:]) for name, values in seconds.items()}


def measure_rewrites(folder: Path, size: int, precision: str) -> None:
    about = json.loads((folder / "model.json").read_text())
    for component in ("encoder", "unet", "decoder"):
        requests = {}
        for name, rewrite in REWRITES.items():
            model = openvino.Core().read_model(folder / f"{component}.xml")
            side = size if component == "encoder" else size // about["latent_factor"]
            shape = [1, model.input().partial_shape[1].get_length(), side, side]
            model.reshape(shape)
            rewrite(model)
            requests[name] = _request(model, precision)
        values = np.random.default_rng(0).random(shape, np.float32)
        found = _medians(requests, [values])
        for name, seconds in found.items():
            print(f"{component} {name}: {seconds:.3f} s, {seconds / found['unchanged']:.3f}")


def _attention(heads: int, tokens: int, width: int, rounded: bool) -> Any:
    query, key, value = (ops.parameter([1, heads, tokens, width], np.float32) for _ in range(3))

    def round_(x: Any, lower: float, upper: float) -> Any:
        bounds = [ops.constant(np.float32(bound)) for bound in (lower, upper)]
        return ops.fake_quantize(x, *bounds, *bounds, 256) if rounded else x

    least, most = -4.0, 4.0 * 127 / 128
    scores = ops.matmul(round_(query, least, most), round_(key, least, most), False, True)
    scores = ops.multiply(scores, ops.constant(np.float32(width**-0.5)))
    mixed = ops.matmul(
        round_(ops.softmax(scores, -1), 0.0, 1.0), round_(value, least, most), False, False
    )
    return openvino.Model([mixed], [query, key, value])


def measure_attention(precision: str) -> None:
    for name, (heads, tokens, width) in ATTENTIONS.items():
        shape = (1, heads, tokens, width)
        values = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
        requests = {
            "int8": _request(_attention(heads, tokens, width, True), precision),
            precision: _request(_attention(heads, tokens, width, False), precision),
        }
        found = _medians(requests, list(values))
        shown = ", ".join(f"{kind} {1e3 * seconds:.1f} ms" for kind, seconds in found.items())
        print(f"attention {name}, {heads}×{tokens}×{width}: {shown}")


if __name__ == "__main__":
    measure_rewrites(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 512, "bf16")
    measure_attention("bf16")
