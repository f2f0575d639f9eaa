"""ONNX files of a model's components: writing them, and running them by onnxruntime."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from passionsr_cli.conversion.graph_files import component_side
from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.conversion.tracing import component_of_model
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError
from passionsr_cli.export.onnx_graph import program
from passionsr_cli.imaging.arrays import Array
from passionsr_cli.layers.convert import Frozen, frozen_layers
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.models.components import COMPONENTS, DECODER, ENCODER, UNET
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.models.schedule import mix_heads, predict_x0, rates
from passionsr_cli.quantization.affine import Grid
from passionsr_cli.system.memory import process_peak_bytes

LAYERS_FILE = "layers.json"
# What onnxruntime's CPU kernels on integers are called.
_INTEGER_KERNELS = ("QLinearConv", "ConvInteger", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm")


def write_onnx(model: OneStepModel, folder: Path, size_px: int | None) -> None:
    """Convert all components, one after the other, into COMPONENT.onnx, each checked by ONNX."""
    layers = {}
    for component in COMPONENTS:
        side = None if size_px is None else component_side(model.description, component, size_px)
        traced = component_of_model(model, component)
        path = folder / f"{component}.onnx"
        program(traced, side).save(path)
        onnx.checker.check_model(path, full_check=False)
        layers[component] = {"layers": traced.layers, "folded": traced.folded}
    (folder / LAYERS_FILE).write_text(json.dumps(layers, indent=2), encoding="utf-8")


def refuse_zero_points(model: OneStepModel) -> None:
    """Raise `ConfigError` if a rounded input has a zero point, as TensorRT cannot run it."""
    found = [
        f"{name} ({place})"
        for name, layer in frozen_layers(model).items()
        for place, grid in _activation_grids(layer)
        if not grid.scheme.symmetric
    ]
    if found:
        raise ConfigError(
            f"TensorRT takes zero points of 0 alone, but {len(found)} grids have others, such as "
            f"that of {found[0]}; calibrate with `--config symmetric` and export that"
        )


def _activation_grids(layer: Frozen) -> list[tuple[str, Grid]]:
    if not isinstance(layer, FrozenLayer):
        return list(layer.grids.items())
    grids = [("input", layer.input_grid)]
    if layer.weight_grid is not None and layer.weight_grid.scheme.num_bits == 8:
        # Those below 8 bits fit int8 without their zero point.
        grids.append(("weight", layer.weight_grid))
    return [(place, grid) for place, grid in grids if grid is not None]


class OnnxExecutor:
    """Runs exported ONNX files on the CPU, in float32 where onnxruntime has no integer kernel."""

    backend = "onnxruntime"
    device = "cpu"
    precision = "fp32"

    def __init__(self, description: ModelDescription, folder: Path) -> None:
        self.description, self._folder = description, folder
        self._sessions: dict[str, Any] = {}
        self._rates = rates(description)

    def restore_latent(self, upscaled: Array, realism: float | None = None) -> Array:
        latent = self._run(ENCODER, upscaled)
        noise = mix_heads(self._run(UNET, latent), self.description, realism)
        return predict_x0(latent, noise, self._rates)

    def decode(self, latent: Array) -> Array:
        return self._run(DECODER, latent)

    def kernels(self) -> KernelReport:
        """Kernels that onnxruntime runs the quantized layers on, from the graphs it optimized."""
        listed = json.loads((self._folder / LAYERS_FILE).read_text(encoding="utf-8"))
        integer, folded, floating = [], [], []
        for component, names in listed.items():
            folded += names["folded"]
            rest = [name for name in names["layers"] if name not in names["folded"]]
            kernels = self._kernels(component) if rest else {}
            for name in rest:
                kernel = kernels.get(name, "")
                if kernel in _INTEGER_KERNELS:
                    integer.append(name)
                else:
                    floating.append((name, f"onnxruntime runs it as {kernel or 'something else'}"))
        return KernelReport(tuple(integer), tuple(folded), tuple(floating))

    def peak_memory_bytes(self) -> int:
        return process_peak_bytes()

    def _run(self, component: str, x: Array) -> Array:
        if component not in self._sessions:
            self._sessions[component] = self._session(component, None)
        session = self._sessions[component]
        name = session.get_inputs()[0].name
        result: Array = session.run(None, {name: np.ascontiguousarray(x)})[0]
        return result

    def _session(self, component: str, optimized: Path | None) -> Any:
        options = onnxruntime.SessionOptions()
        # It warns of constants it cannot fold and that optimized graphs fit one machine.
        options.log_severity_level = 3
        # Where weights alone are quantized it would round inputs to 8 bits on its own.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        # Else CPUs that have no VNNI or AMX sum two 8-bit products in 16 bits, which overflow.
        options.add_session_config_entry("session.x64quantprecision", "1")
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
            # Weights apart: in one file with them a graph could not pass 2 GB.
            key = "session.optimized_model_external_initializers_file_name"
            options.add_session_config_entry(key, "weights.bin")
        path = self._folder / f"{component}.onnx"
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def _kernels(self, component: str) -> dict[str, str]:
        """Kernel of each product of a component, by the node's name."""
        with tempfile.TemporaryDirectory(prefix="passionsr-") as folder:
            optimized = Path(folder) / "optimized.onnx"
            self._session(component, optimized)
            graph = onnx.load(optimized, load_external_data=False).graph
        # Behind the names of the nodes it changed, onnxruntime notes what it did.
        return {re.sub(r"(/.*|_token_\d+)$", "", node.name): node.op_type for node in graph.node}
