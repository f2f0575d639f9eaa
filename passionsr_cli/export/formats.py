"""The formats a model can be exported to; one entry each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, DeviceError
from passionsr_cli.inference.executor import Executor
from passionsr_cli.registry import MANIFEST_FILE
from passionsr_cli.system.text import suggestion

if TYPE_CHECKING:
    from passionsr_cli.models.one_step import OneStepModel

TENSORRT = "tensorrt"
NAMES = ("openvino", "onnx", "safetensors")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Format:
    """One format of exports: how it is written and run again.

    `check` refuses a model the format or its target cannot take, `write` fills a folder,
    `open` runs what is there.
    """

    name: str
    target: str | None
    check: Callable[[OneStepModel], None]
    write: Callable[[OneStepModel, Artifact, Path, int | None], None]
    open: Callable[[Path, ModelDescription], Executor]


def find_format(name: str, target: str | None) -> Format:
    """The format of this name. Raises `ConfigError` if there is none, or not for the target."""
    check_format(name, target)
    return {"openvino": _openvino, "onnx": _onnx, "safetensors": _safetensors}[name](target)


def check_format(name: str, target: str | None) -> None:
    """Refuse a format that is unknown, not installed, or not for the target. Imports no torch."""
    if name not in NAMES:
        raise ConfigError(f"unknown format '{name}'{suggestion(name, NAMES)}")
    if name == "onnx" and not all(map(find_spec, ONNX_PACKAGES)):
        raise DeviceError(
            "the ONNX packages are not installed; `pip install 'passionsr[onnx]'` adds them"
        )
    if target is not None and (name, target) != ("onnx", TENSORRT):
        raise ConfigError(f"--target {target} does not go with {name}; use onnx and {TENSORRT}")


def _nothing_to_check(model: OneStepModel) -> None:
    pass


def _openvino(target: str | None) -> Format:
    from passionsr_cli.conversion.graph_files import write_graphs
    from passionsr_cli.conversion.stored_graphs import GraphFolder
    from passionsr_cli.inference.arithmetic import graph_for_this_cpu
    from passionsr_cli.inference.openvino_executor import OpenVINOExecutor

    return Format(
        "openvino",
        target,
        _nothing_to_check,
        lambda model, source, folder, size_px: write_graphs(
            model, folder, size_px, graph_for_this_cpu
        ),
        lambda folder, description: OpenVINOExecutor(description, GraphFolder(folder), "fp32"),
    )


def _onnx(target: str | None) -> Format:
    from passionsr_cli.export.onnx_files import OnnxExecutor, refuse_zero_points, write_onnx

    return Format(
        "onnx",
        target,
        refuse_zero_points if target == TENSORRT else _nothing_to_check,
        lambda model, source, folder, size_px: write_onnx(model, folder, size_px),
        lambda folder, description: OnnxExecutor(description, folder),
    )


def _safetensors(target: str | None) -> Format:
    return Format("safetensors", target, _nothing_to_check, _copy, _open_copy)


def _copy(model: OneStepModel, artifact: Artifact, folder: Path, size_px: int | None) -> None:
    """The store's own files: tensors packed to their bits, and the manifest that explains them."""
    entry = artifact.entry
    shutil.copyfile(entry.tensors_path, folder / entry.tensors_path.name)
    shutil.copyfile(entry.folder / MANIFEST_FILE, folder / MANIFEST_FILE)


def _open_copy(folder: Path, description: ModelDescription) -> Executor:
    from passionsr_cli.inference.torch_executor import TorchExecutor
    from passionsr_cli.system.devices import accelerator

    return TorchExecutor(resolve(str(folder)).load(), accelerator("cpu", "fp32"))
