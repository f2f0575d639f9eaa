"""onnxruntime: a model's ONNX files on one of its providers, TensorRT, CUDA or the CPU."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.conversion.stored_graphs import Graphs
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, DeviceError, TileMemoryError
from passionsr_cli.models.components import DECODER, ENCODER, UNET
from passionsr_cli.models.schedule import mix_heads, predict_x0, rates
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.devices import has_gpu_driver
from passionsr_cli.system.files import temporary_folder, temporary_space
from passionsr_cli.system.memory import is_out_of_memory, process_peak_bytes

TENSORRT, CUDA, CPU = (f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU"))
# What people call them, in the order in which they are tried.
PROVIDERS = {TENSORRT: "TensorRT", CUDA: "CUDA", CPU: "the CPU"}
ENGINES_FOLDER = "engines"
# What onnxruntime's CPU kernels on integers are called.
INTEGER_KERNELS = ("QLinearConv", "ConvInteger", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm")


def choose_providers(device: str) -> tuple[str, ...]:
    """Providers of this onnxruntime for auto, cpu, cuda or cuda:N, the fastest first.

    Raises `DeviceError` if CUDA was asked for and there is none, `ConfigError` for other devices.
    """
    if device not in ("auto", "cpu") and not device.startswith("cuda"):
        raise ConfigError(f"onnxruntime runs on cpu or cuda here, not on '{device}'")
    there = onnxruntime.get_available_providers()
    found = tuple(name for name in PROVIDERS if name in there)
    if device == "cpu" or (device == "auto" and not has_gpu_driver()):
        return (CPU,)
    if device != "auto" and found == (CPU,):
        raise DeviceError(
            f"'{device}' was asked for, this onnxruntime has no provider for it; "
            "`pip install onnxruntime-gpu` in its place has, or use --device cpu"
        )
    return found


class OnnxExecutor:
    """Runs the ONNX files of one model, typed as `precision` says.

    What a provider cannot run the next one of `providers` does. `device` is where the first is.
    """

    backend = "onnxruntime"

    def __init__(
        self,
        description: ModelDescription,
        graphs: Graphs,
        precision: str,
        device: str = "cpu",
        providers: tuple[str, ...] = (CPU,),
        reporter: Reporter = SILENT,
    ) -> None:
        self.description, self.precision, self.device = description, precision, device
        self._graphs, self._providers, self._note = graphs, providers, reporter.note
        self._sessions: dict[str, Any] = {}
        # Of each component: what ran each node, and whose it is.
        self._ran: dict[str, dict[str, tuple[str, str]]] = {}
        self._rates = rates(description)

    def restore_latent(self, upscaled: Array, realism: float | None = None) -> Array:
        latent = self._run(ENCODER, upscaled)
        noise = mix_heads(self._run(UNET, latent), self.description, realism)
        return predict_x0(latent, noise, self._rates)

    def decode(self, latent: Array) -> Array:
        return self._run(DECODER, latent)

    def kernels(self) -> KernelReport:
        """Kernels that ran the quantized layers, as onnxruntime's profiles of first runs say."""
        integer: list[str] = []
        folded: list[str] = []
        floating: list[tuple[str, str]] = []
        for component, ran in self._ran.items():
            graph = self._graphs.graph(component)
            folded += graph.folded
            for name in graph.layers:
                kernel, provider = ran.get(name, ("", self._providers[0]))
                if name in graph.folded:
                    continue
                if kernel in INTEGER_KERNELS:
                    integer.append(name)
                elif kernel:
                    floating.append((name, f"{PROVIDERS[provider]} of onnxruntime runs {kernel}"))
                else:
                    floating.append((name, f"{PROVIDERS[provider]} does not say how it runs it"))
        return KernelReport(tuple(integer), tuple(folded), tuple(floating))

    def peak_memory_bytes(self) -> int:
        return process_peak_bytes()

    def _run(self, component: str, x: Array) -> Array:
        if component in self._sessions:
            return _inferred(self._sessions[component], x)
        path = self._graphs.graph(component).path
        # The first run is profiled: nothing else tells what runs a layer.
        with temporary_space(), temporary_folder() as folder:
            session = self._open(path, Path(folder) / "profile")
            result = _inferred(session, x)
            self._ran[component] = _kernels(Path(session.end_profiling()))
        self._sessions[component] = session
        return result

    def _open(self, path: Path, profile: Path) -> Any:
        options = onnxruntime.SessionOptions()
        # It warns of constants it cannot fold and that optimized graphs fit one machine.
        options.log_severity_level = 3
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
        # Where weights alone are quantized it would round inputs to 8 bits on its own.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        # Else CPUs that have no VNNI or AMX sum two 8-bit products in 16 bits, which overflow.
        options.add_session_config_entry("session.x64quantprecision", "1")
        wanted = [(name, self._settings(name, path.parent)) for name in self._providers]
        session = onnxruntime.InferenceSession(path, options, providers=wanted)
        if not self._sessions:
            self._tell(session.get_providers()[0])
        return session

    def _settings(self, provider: str, folder: Path) -> dict[str, Any]:
        if provider == CPU:
            return {}
        number = {"device_id": int(self.device.partition(":")[2] or 0)}
        if provider == CUDA:
            return number
        # Engines take minutes; onnxruntime names them after graph, GPU and version.
        kept = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder / ENGINES_FOLDER),
        }
        # Up to version 10 TensorRT takes these types where it may, from 11 those of the file.
        types = {"trt_int8_enable": True, "trt_fp16_enable": self.precision == "fp16"}
        return {**number, **kept, **types}

    def _tell(self, provider: str) -> None:
        """Tell which provider runs, and of those that did not start."""
        self._note(f"onnxruntime runs on {PROVIDERS[provider]}")
        failed = self._providers[: self._providers.index(provider)]
        if failed:
            names = " and ".join(PROVIDERS[name] for name in failed)
            self._note(f"{names} of onnxruntime did not start: their libraries are not found")
        if provider == CPU:
            self.device = "cpu"


def _inferred(session: Any, x: Array) -> Array:
    name = session.get_inputs()[0].name
    try:
        result: Array = session.run(None, {name: np.ascontiguousarray(x)})[0]
    except Exception as error:
        # Its errors are of no class that says memory, nor of RuntimeError.
        if not is_out_of_memory(RuntimeError(str(error))):
            raise
        raise TileMemoryError("out of memory on one tile; choose a smaller --tile") from error
    return result


def _kernels(profile: Path) -> dict[str, tuple[str, str]]:
    """Kernel and provider of each node that ran, by its name in the file."""
    events = json.loads(profile.read_text(encoding="utf-8"))
    return {
        _node_name(event["name"]): (event["args"]["op_name"], event["args"]["provider"])
        for event in events
        if event["cat"] == "Node" and "op_name" in event["args"]
    }


def _node_name(name: str) -> str:
    """Behind the names of the nodes it changed, onnxruntime notes what it did."""
    return re.sub(r"(/.*|_token_\d+)$", "", name.removesuffix("_kernel_time"))
