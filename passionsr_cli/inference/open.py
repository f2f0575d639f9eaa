"""Choosing an executor for a model or a checkpoint."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.checkpoints.artifacts import Artifact
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.inference.cache_folders import graphs_folder, use
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.made_by import graph_code
from passionsr_cli.progress import Reporter
from passionsr_cli.system.devices import accelerator, choose_device, choose_precision

if TYPE_CHECKING:
    from torch import Tensor

    from passionsr_cli.conversion.openvino_graph import ComponentGraph
    from passionsr_cli.models.one_step import OneStepModel

RELEASED_IS_SIMULATED = "the released numerics have no form integer kernels take"


def open_executor(
    artifact: Artifact, backend: str, device: str, precision: str, reporter: Reporter
) -> Executor:
    """An executor of this backend; auto takes OpenVINO on a CPU and torch elsewhere.

    Triton's kernels were not timed on a GPU yet, so that auto does not take them.

    Everything around quantized layers is float32 unless another precision is asked for: rounding
    their inputs to bf16 first would change many of the integers.
    """
    chosen = choose_device(device)
    if artifact.quantized and precision == "auto":
        precision = "fp32"
    if backend not in ("auto", "torch", "openvino", "triton"):
        raise ConfigError(f"unknown backend '{backend}'; use auto, torch, openvino or triton")
    if artifact.simulated and backend != "torch":
        if backend != "auto":
            raise ConfigError(f"{RELEASED_IS_SIMULATED}; use --backend torch")
        reporter.note(f"{RELEASED_IS_SIMULATED}; torch simulates it")
        backend = "torch"
    if backend == "openvino" and chosen != "cpu":
        if device != "auto":
            raise ConfigError(f"OpenVINO runs on the CPU, not on '{device}'; use --device cpu")
        chosen = choose_device("cpu")
    if backend == "triton":
        return _open_triton(artifact, chosen, precision)
    if chosen == "cpu" and backend != "torch":
        try:
            return _open_openvino(artifact, choose_precision(precision, chosen), reporter)
        except ImportError as error:
            if backend == "openvino":
                raise DeviceError(
                    f"OpenVINO cannot be used: {error}; install it with "
                    "`pip install --upgrade openvino`, or use --backend torch"
                ) from error
            reporter.note(f"OpenVINO cannot be used ({error}); torch does the work, more slowly")
    from passionsr_cli.inference.torch_executor import TorchExecutor

    return TorchExecutor(artifact.load(), accelerator(chosen, precision))


def _open_triton(artifact: Artifact, device: str, precision: str) -> Executor:
    try:
        from passionsr_cli.inference.triton.executor import TritonExecutor, check_device
    except ImportError as error:
        raise DeviceError(
            f"Triton cannot be used: {error}; it comes with torch for CUDA, on Linux; "
            "use --backend auto"
        ) from error
    check_device(device)
    return TritonExecutor(artifact.load(), accelerator(device, precision))


def _open_openvino(artifact: Artifact, precision: str, reporter: Reporter) -> Executor:
    import openvino

    from passionsr_cli.conversion.prepared_graphs import find_prepared
    from passionsr_cli.inference.arithmetic import products_saturate
    from passionsr_cli.inference.graph_cache import GraphCache
    from passionsr_cli.inference.openvino_executor import OpenVINOExecutor

    made_by = [graph_code(), openvino.__version__, cpu_name()]
    saturating = artifact.quantized and products_saturate()
    if saturating:
        made_by.append("saturating")
    folder = graphs_folder("openvino", artifact, made_by)
    use(folder)
    prepared = None
    if artifact.entry is not None:
        prepared = find_prepared(artifact.entry, artifact.fingerprint, saturating)
    graphs = GraphCache(folder, artifact.load, reporter, prepared=prepared)
    return OpenVINOExecutor(artifact.description, graphs, precision)


def open_nncf(artifact: Artifact, precision: str, reporter: Reporter) -> Executor:
    """A full-precision model as NNCF quantizes it by default (see `nncf_graphs`), on a CPU.

    NNCF sees the crops a calibration sees by default; its graphs are cached like others.
    """
    from passionsr_cli.conversion.nncf_graphs import nncf_graph
    from passionsr_cli.data.calibration_images import default_crops
    from passionsr_cli.inference.graph_cache import GraphCache
    from passionsr_cli.inference.openvino_executor import OpenVINOExecutor

    chosen = choose_precision("fp32" if precision == "auto" else precision, choose_device("cpu"))
    defaults = CalibrationSettings()

    @cache
    def crops() -> list[Tensor]:
        return default_crops(artifact.description, defaults.crop_px, defaults.crops)

    def convert(model: OneStepModel, component: str) -> ComponentGraph:
        return nncf_graph(model, component, crops())

    folder = nncf_folder(artifact)
    use(folder)
    graphs = GraphCache(folder, artifact.load, reporter, convert)
    return OpenVINOExecutor(artifact.description, graphs, chosen)


def nncf_folder(artifact: Artifact) -> Path:
    """Folder of the graphs of `open_nncf`."""
    try:
        versions = [version("nncf"), version("openvino")]
    except PackageNotFoundError as error:
        raise DeviceError(f"NNCF cannot be used: {error}; `pip install nncf` adds it") from error
    return graphs_folder("nncf", artifact, [graph_code(), *versions, cpu_name()])


def cpu_name() -> str:
    """The CPU as OpenVINO calls it: compiled graphs fit only the kind they were made on."""
    from passionsr_cli.inference.core import core

    return str(core().get_property("CPU", "FULL_DEVICE_NAME"))
