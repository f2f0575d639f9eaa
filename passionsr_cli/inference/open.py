"""Choosing an executor for a model or a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.checkpoints.catalogue import (
    Checkpoint,
    check_origin,
    checkpoint_names,
    find_checkpoint,
)
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError, DeviceError, StoreError
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.made_by import graph_code
from passionsr_cli.models import catalogue
from passionsr_cli.progress import Reporter
from passionsr_cli.registry import EMBEDDED_MODEL, ModelDescription
from passionsr_cli.store import CHECKPOINT, Entry, kind_of
from passionsr_cli.system.devices import accelerator, choose_device, choose_precision
from passionsr_cli.system.paths import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

    from passionsr_cli.conversion.openvino_graph import ComponentGraph
    from passionsr_cli.models.one_step import OneStepModel

RELEASED_IS_SIMULATED = "the released numerics have no form integer kernels take"


@dataclass(frozen=True)
class Source:
    """What an executor runs. `fingerprint` is another for what computes otherwise; `entry` is
    where it is stored, if anywhere. `simulated` is what torch alone computes: the released
    numerics."""

    description: ModelDescription
    fingerprint: str
    quantized: bool
    load: Callable[[], OneStepModel]
    entry: Entry | None = None
    simulated: bool = False


def source_of(model: str | None, checkpoint: str | None) -> Source:
    """A model by name or folder, or a checkpoint, which then must be one of that model."""
    if checkpoint is None:
        name = model or EMBEDDED_MODEL
        known = catalogue.find_present(name)
        # The same weights may be run at another timestep.
        made_of = [catalogue.checksum(known), known.description.model_dump_json()]
        return Source(
            known.description,
            hashlib.sha256("".join(made_of).encode()).hexdigest(),
            False,
            lambda: _load_model(name),
            catalogue.entry_of(known),
        )
    found = find_checkpoint(checkpoint)
    if model is not None:
        check_origin(found, model)
    stored = [found.entry.manifest, found.entry.tensors_file.sha256]
    fingerprint = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
    return Source(
        found.manifest.model.description,
        fingerprint,
        True,
        lambda: _load_checkpoint(found),
        found.entry,
        simulated=found.manifest.numerics == "released",
    )


def _load_model(name: str) -> OneStepModel:
    from passionsr_cli.models.loading import load

    return load(name)


def _load_checkpoint(checkpoint: Checkpoint) -> OneStepModel:
    from passionsr_cli.checkpoints.tensors import load_checkpoint

    return load_checkpoint(checkpoint)


def source_named(name: str) -> Source:
    """A checkpoint or else a model, by its name or folder."""
    made = checkpoint_names()
    if name in made or kind_of(Path(name)) == CHECKPOINT:
        return source_of(None, name)
    models = [known.name for known in catalogue.known_models()]
    if name not in models and not Path(name).is_dir():
        raise StoreError(
            f"there is no checkpoint or model '{name}'; checkpoints: {', '.join(made)}; "
            f"models: {', '.join(models)}"
        )
    return source_of(name, None)


def open_executor(
    source: Source, backend: str, device: str, precision: str, reporter: Reporter
) -> Executor:
    """An executor of this backend; auto takes OpenVINO on a CPU and torch elsewhere.

    Everything around quantized layers is float32 unless another precision is asked for: rounding
    their inputs to bf16 first would change many of the integers.
    """
    chosen = choose_device(device)
    if source.quantized and precision == "auto":
        precision = "fp32"
    if backend not in ("auto", "torch", "openvino"):
        raise ConfigError(f"unknown backend '{backend}'; use auto, torch or openvino")
    if source.simulated and backend != "torch":
        if backend == "openvino":
            raise ConfigError(f"{RELEASED_IS_SIMULATED}; use --backend torch")
        reporter.note(f"{RELEASED_IS_SIMULATED}; torch simulates it")
        backend = "torch"
    if backend == "openvino" and chosen != "cpu":
        if device != "auto":
            raise ConfigError(f"OpenVINO runs on the CPU, not on '{device}'; use --device cpu")
        chosen = choose_device("cpu")
    if chosen == "cpu" and backend != "torch":
        try:
            return _open_openvino(source, choose_precision(precision, chosen), reporter)
        except ImportError as error:
            if backend == "openvino":
                raise DeviceError(
                    f"OpenVINO cannot be used: {error}; install it with "
                    "`pip install --upgrade openvino`, or use --backend torch"
                ) from error
            reporter.note(f"OpenVINO cannot be used ({error}); torch does the work, more slowly")
    from passionsr_cli.inference.torch_executor import TorchExecutor

    return TorchExecutor(source.load(), accelerator(chosen, precision))


def _open_openvino(source: Source, precision: str, reporter: Reporter) -> Executor:
    import openvino

    from passionsr_cli.inference.arithmetic import products_saturate
    from passionsr_cli.inference.graph_cache import GraphCache
    from passionsr_cli.inference.openvino_executor import OpenVINOExecutor

    made_by = [source.fingerprint, graph_code(), openvino.__version__, cpu_name()]
    if source.quantized and products_saturate():
        made_by.append("saturating")
    key = _key(made_by)
    folder = cache_folder() / "openvino" / f"{source.description.name}-{key}"
    return OpenVINOExecutor(
        source.description, GraphCache(folder, source.load, reporter), precision
    )


def open_nncf(source: Source, precision: str, reporter: Reporter) -> Executor:
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
        return default_crops(source.description, defaults.crop_px, defaults.crops)

    def convert(model: OneStepModel, component: str) -> ComponentGraph:
        return nncf_graph(model, component, crops())

    graphs = GraphCache(nncf_folder(source), source.load, reporter, convert)
    return OpenVINOExecutor(source.description, graphs, chosen)


def nncf_folder(source: Source) -> Path:
    """Where the graphs of `open_nncf` are kept."""
    try:
        versions = [version("nncf"), version("openvino")]
    except PackageNotFoundError as error:
        raise DeviceError(f"NNCF cannot be used: {error}; `pip install nncf` adds it") from error
    key = _key([source.fingerprint, graph_code(), *versions, cpu_name()])
    return cache_folder() / "nncf" / f"{source.description.name}-{key}"


def _key(made_by: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:24]


def cpu_name() -> str:
    """The CPU as OpenVINO calls it: compiled graphs fit only the kind they were made on."""
    from passionsr_cli.inference.core import core

    return str(core().get_property("CPU", "FULL_DEVICE_NAME"))
