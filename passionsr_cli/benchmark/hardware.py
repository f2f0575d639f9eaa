"""Roofline of this machine: the most arithmetic it does.

Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for Multicore
Architectures", CACM 52(4), 2009: here the flat part of the roof alone.
"""

from __future__ import annotations

import importlib.metadata
import math
import time
from typing import Any

import numpy as np
import openvino
import psutil
import torch
from openvino import opset13 as ops

from passionsr_cli import __version__
from passionsr_cli.graphs.core import DEVICE, core
from passionsr_cli.inference.open import device_name
from passionsr_cli.system.cpu import instructions

# Large enough for full speed, small enough for a second: four in a row, each 17 to 19 G operations.
PRODUCTS = 4
MATMUL_SIDE = 2048
CONVOLUTION_SIDE_PX, CONVOLUTION_CHANNELS = 64, 512
LEAST_SECONDS, FEWEST_RUNS = 1.5, 3
# How OpenVINO's names of kernels end.
KERNELS = {"int8": "_i8", "bf16": "_bf16", "fp32": "_f32"}


def measure_machine() -> dict[str, Any]:
    """The machine and its roofline in TOPS, as `--json` shows them.

    A roof is null where OpenVINO has no kernel of that arithmetic.
    """
    return {
        "cpu": device_name(DEVICE),
        "cores": psutil.cpu_count(logical=False),
        "threads": {"torch": torch.get_num_threads(), "openvino": _openvino_threads()},
        "memory_bytes": psutil.virtual_memory().total,
        "instructions": list(instructions()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {
            "passionsr": __version__,
            "torch": str(torch.__version__),
            "openvino": openvino.__version__,
            "nncf": _version("nncf"),
        },
        "roofline": {
            arithmetic: {
                "matmul_tops": product_tops("matmul", arithmetic),
                "convolution_tops": product_tops("convolution", arithmetic),
            }
            for arithmetic in KERNELS
        },
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _openvino_threads() -> int:
    x = ops.parameter([1], np.float32)
    compiled = core().compile_model(openvino.Model([ops.relu(x)], [x]), DEVICE)
    return int(compiled.get_property("INFERENCE_NUM_THREADS"))


def product_tops(kind: str, arithmetic: str) -> float | None:
    """The most 10¹² operations per second in large products of one kind; the best of several runs.

    `kind` is matmul or convolution (3×3), `arithmetic` int8, bf16 or fp32; an operation is a
    multiplication or an addition. None where OpenVINO's execution graph names other kernels.
    """
    model, operations = _products(kind, arithmetic == "int8")
    precision = "bf16" if arithmetic == "bf16" else "f32"
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core().compile_model(model, DEVICE, settings)
    if not all(name.endswith(KERNELS[arithmetic]) for name in _kernels(compiled)):
        return None
    request = compiled.create_infer_request()
    values = np.random.default_rng(0).standard_normal(list(model.input(0).shape))
    inputs = [values.astype(np.float32)]
    request.infer(inputs)
    seconds: list[float] = []
    while len(seconds) < FEWEST_RUNS or sum(seconds) < LEAST_SECONDS:
        started = time.perf_counter()
        request.infer(inputs)
        seconds.append(time.perf_counter() - started)
    return operations / min(seconds) / 1e12


def _products(kind: str, on_integers: bool) -> tuple[Any, int]:
    """Products one after the other, which in int8 hand integers on, and their operations."""
    if kind == "matmul":
        shape, weight_shape = [MATMUL_SIDE] * 2, [MATMUL_SIDE] * 2
    else:
        channels, side = CONVOLUTION_CHANNELS, CONVOLUTION_SIDE_PX
        shape, weight_shape = [1, channels, side, side], [channels, channels, 3, 3]
    x = source = ops.parameter(shape, np.float32)
    for number in range(PRODUCTS):
        weight = _weight(weight_shape, number, on_integers)
        if on_integers:
            bounds = [ops.constant(np.float32(bound)) for bound in (-1.0, 127 / 128)]
            x = ops.fake_quantize(x, *bounds, *bounds, 256)
        if kind == "matmul":
            x = ops.matmul(x, weight, False, True)
        else:
            x = ops.convolution(x, weight, [1, 1], [1, 1], [1, 1], [1, 1])
        x.set_friendly_name(f"product{number}")
    outputs = math.prod(shape)
    return openvino.Model([x], [source]), 2 * PRODUCTS * outputs * math.prod(weight_shape[1:])


def _weight(shape: list[int], seed: int, on_integers: bool) -> Any:
    """Weights that keep the size of what they multiply, so that every value stays ordinary."""
    generator = np.random.default_rng(seed)
    deviation = 1 / math.sqrt(math.prod(shape[1:]))
    if not on_integers:
        return ops.constant((generator.standard_normal(shape) * deviation).astype(np.float32))
    integers = generator.integers(-127, 128, shape).astype(np.int8)
    scales = np.full([shape[0], *[1] * (len(shape) - 1)], deviation / 73, np.float32)
    return ops.multiply(ops.convert(ops.constant(integers), "f32"), ops.constant(scales))


def _kernels(compiled: Any) -> list[str]:
    """The kernels that compute the products."""
    found = []
    for node in compiled.get_runtime_model().get_ops():
        notes = node.get_rt_info()
        if "product" in str(notes["originalLayersNames"].astype(str)):
            kernel = str(notes["primitiveType"].astype(str)).lower()
            if str(notes["layerType"].astype(str)) in ("Convolution", "FullyConnected", "MatMul"):
                found.append(kernel)
    return found
