"""Choosing an executor for a model or a checkpoint."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from passionsr_cli.checkpoints.artifacts import Artifact
from passionsr_cli.config import Backend, CalibrationSettings
from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.graphs.cache_folders import graphs_folder, use
from passionsr_cli.graphs.made_by import CONVERTERS, ONNX_CONVERTERS, graph_code
from passionsr_cli.inference.executor import Executor
from passionsr_cli.progress import Reporter
from passionsr_cli.system.devices import (
    check_device_name,
    choose_device,
    choose_precision,
    is_intel,
    open_device,
)
from passionsr_cli.system.text import suggestion

if TYPE_CHECKING:
    from torch import Tensor

    from passionsr_cli.models.one_step import OneStepModel

BACKENDS = get_args(Backend)
# Types around the integers of an ONNX file. Those of bf16 onnxruntime runs on no CPU, as proof.
ONNX_PRECISIONS = ("fp32", "fp16")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
RELEASED_IS_SIMULATED = "the released numerics have no form integer kernels take"


def open_executor(
    artifact: Artifact, backend: str, device: str, precision: str, reporter: Reporter
) -> Executor:
    """An executor of this backend; auto takes OpenVINO on a CPU, and on Intel's GPUs and NPUs if
    they are asked for, Triton for checkpoints on NVIDIA GPUs where it wins a race (see `race`), and
    torch elsewhere, compiled on GPUs where that pays (see `compiling`).

    `precision` auto is what `choose_precision` says, but float32 around integers that torch
    simulates or Triton runs: rounding their inputs to bf16 first changes many of the integers.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend '{backend}'{suggestion(backend, BACKENDS)}")
    if artifact.simulated and backend != "torch":
        if backend != "auto":
            raise ConfigError(f"{RELEASED_IS_SIMULATED}; use --backend torch")
        reporter.note(f"{RELEASED_IS_SIMULATED}; torch simulates it")
        backend = "torch"
    if backend == "onnxruntime":
        return _open_onnx(artifact, device, precision, reporter)
    check_device_name(device)
    if is_intel(device):
        if backend not in ("auto", "openvino"):
            raise ConfigError(
                f"{backend} does not run on '{device}'; use --backend openvino, or --device cuda "
                "if NVIDIA's is meant"
            )
        try:
            return _open_openvino(artifact, device, precision, reporter)
        except ImportError as error:
            raise _no_openvino(error) from error
    chosen, asked = choose_device(device, reporter), precision
    if artifact.quantized and precision == "auto":
        precision = "fp32"
    if backend == "openvino" and chosen != "cpu":
        if device != "auto":
            raise ConfigError(f"OpenVINO runs on the CPU, not on '{device}'; use --device cpu")
        chosen = choose_device("cpu")
    verdict = None
    if backend == "auto" and artifact.quantized and chosen.startswith("cuda"):
        from passionsr_cli.inference.race import choose_arithmetic

        verdict = choose_arithmetic(artifact, chosen, precision, reporter)
        backend = "triton" if verdict.on_integers else "torch"
    if backend == "triton":
        return _open_triton(artifact, chosen, precision, reporter)
    if chosen == "cpu" and backend != "torch":
        try:
            return _open_openvino(artifact, chosen, choose_precision(asked, chosen), reporter)
        except ImportError as error:
            if backend == "openvino":
                raise _no_openvino(error) from error
            reporter.note(f"OpenVINO cannot be used ({error}); torch does the work, more slowly")
    used = open_device(chosen, precision)
    if backend == "auto" and chosen.startswith("cuda") and _can_compile(reporter):
        from passionsr_cli.inference.compiling import CompilingExecutor
        from passionsr_cli.inference.race import verdict_file

        file = verdict_file("compiling", artifact, chosen, used.precision)
        return CompilingExecutor(artifact.load(), used, file, reporter)
    from passionsr_cli.inference.torch_executor import TorchExecutor

    why = verdict.reason if verdict else ""
    return TorchExecutor(artifact.load(), used, why_simulated=why, reporter=reporter)


def _can_compile(reporter: Reporter) -> bool:
    """Tell whether torch can compile for a GPU here, with Triton; note what is in its way."""
    if find_spec("triton") is None:
        return False
    from passionsr_cli.inference.triton_executor import check_start

    try:
        check_start()
    except DeviceError as error:
        reporter.note(f"not compiled: {str(error).partition(';')[0]}")
        return False
    return True


def _no_openvino(error: ImportError) -> DeviceError:
    return DeviceError(
        f"OpenVINO cannot be used: {error}; install it with `pip install --upgrade openvino`, "
        "or use --backend torch"
    )


def _open_triton(artifact: Artifact, device: str, precision: str, reporter: Reporter) -> Executor:
    try:
        from passionsr_cli.inference.triton_executor import TritonExecutor, check_device
    except ImportError as error:
        raise DeviceError(
            f"Triton cannot be used: {error}; it comes with torch for CUDA, on Linux; "
            "use --backend auto"
        ) from error
    check_device(device)
    return TritonExecutor(artifact.load(), open_device(device, precision), reporter)


def _open_openvino(artifact: Artifact, device: str, precision: str, reporter: Reporter) -> Executor:
    import openvino

    from passionsr_cli.conversion.prepared_graphs import find_prepared
    from passionsr_cli.graphs.arithmetic import products_saturate
    from passionsr_cli.graphs.core import DEVICE, find_device, precision_on
    from passionsr_cli.graphs.graph_cache import GraphCache
    from passionsr_cli.inference.openvino_executor import OpenVINOExecutor

    found = find_device(device)
    if found != DEVICE:
        precision = precision_on(found, precision)
    made_by = [graph_code(), openvino.__version__, device_name(found)]
    saturating = found == DEVICE and artifact.quantized and products_saturate()
    if saturating:
        made_by.append("saturating")
    prepared = None
    if artifact.entry is not None:
        prepared = find_prepared(artifact.entry, artifact.fingerprint, saturating)
    folder = graphs_folder("openvino", artifact, made_by, () if prepared else CONVERTERS)
    use(folder)
    write = None if found == DEVICE else _write_exact
    graphs = GraphCache(folder, artifact.load, reporter, write, prepared)
    quantized = artifact.quantized
    return OpenVINOExecutor(artifact.description, graphs, precision, device, found, quantized)


def _write_exact(model: OneStepModel, folder: Path) -> None:
    """The graphs for devices whose sums of 8-bit products do not overflow."""
    from passionsr_cli.conversion.graph_files import write_graphs

    write_graphs(model, folder)


def _open_onnx(artifact: Artifact, device: str, precision: str, reporter: Reporter) -> Executor:
    """An executor of the ONNX files an export writes, in fp16 on a GPU if nothing else is said."""
    require_onnx()
    from passionsr_cli.conversion.onnx_files import write_onnx
    from passionsr_cli.graphs.graph_cache import GraphCache
    from passionsr_cli.inference.onnx_executor import CPU, OnnxExecutor, choose_providers

    check_device_name(device)
    providers = choose_providers(device)
    on_cpu = providers[0] == CPU
    if precision == "auto":
        precision = "fp32" if on_cpu else "fp16"
    if precision not in ONNX_PRECISIONS:
        known = " or ".join(ONNX_PRECISIONS)
        raise ConfigError(f"onnxruntime computes in {known} here, not in {precision}")
    device = "cpu" if on_cpu else "cuda" if device == "auto" else device
    folder = graphs_folder("onnx", artifact, [graph_code(), precision], ONNX_CONVERTERS)
    use(folder)
    graphs = GraphCache(
        folder,
        artifact.load,
        reporter,
        lambda model, folder: write_onnx(model, folder, precision=precision),
    )
    return OnnxExecutor(artifact.description, graphs, precision, device, providers, reporter)


def require_onnx() -> None:
    """Raise `DeviceError` where the packages that write and run ONNX files are not installed."""
    if not all(map(find_spec, ONNX_PACKAGES)):
        raise DeviceError(f"this needs the ONNX packages: pip install {' '.join(ONNX_PACKAGES)}")


def open_nncf(artifact: Artifact, precision: str, reporter: Reporter) -> Executor:
    """A full-precision model as NNCF quantizes it by default (see `nncf_graphs`), on a CPU.

    NNCF sees the crops a calibration sees by default; its graphs are cached like others.
    """
    from passionsr_cli.conversion.graph_files import write_graphs
    from passionsr_cli.conversion.nncf_graphs import nncf_graph
    from passionsr_cli.data.calibration_images import default_crops
    from passionsr_cli.graphs.graph_cache import GraphCache
    from passionsr_cli.inference.openvino_executor import OpenVINOExecutor

    chosen = choose_precision("fp32" if precision == "auto" else precision, choose_device("cpu"))
    defaults = CalibrationSettings()

    @cache
    def crops() -> list[Tensor]:
        return default_crops(artifact.description, defaults.crop_px, defaults.crops)

    def write(model: OneStepModel, folder: Path) -> None:
        write_graphs(model, folder, convert=lambda model, part: nncf_graph(model, part, crops()))

    folder = nncf_folder(artifact)
    use(folder)
    graphs = GraphCache(folder, artifact.load, reporter, write)
    return OpenVINOExecutor(artifact.description, graphs, chosen)


def nncf_folder(artifact: Artifact) -> Path:
    """Folder of the graphs of `open_nncf`."""
    try:
        versions = [version("nncf"), version("openvino")]
    except PackageNotFoundError as error:
        raise DeviceError(f"this needs NNCF ({error}): pip install nncf") from error
    made_by = [graph_code(), *versions, device_name("CPU")]
    return graphs_folder("nncf", artifact, made_by, CONVERTERS)


def device_name(device: str) -> str:
    """A device's full name: compiled graphs fit only the kind they were made on."""
    from passionsr_cli.graphs.core import core

    return str(core().get_property(device, "FULL_DEVICE_NAME"))
