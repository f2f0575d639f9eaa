"""The formats a model can be exported to; one entry each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.checkpoints.artifacts import Artifact, resolve
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.open import ONNX_PRECISIONS, require_onnx
from passionsr_cli.registry import MANIFEST_FILE
from passionsr_cli.system.text import suggestion

if TYPE_CHECKING:
    from passionsr_cli.models.one_step import OneStepModel

TENSORRT = "tensorrt"
NAMES = ("openvino", "onnx", "safetensors")


@dataclass(frozen=True)
class Format:
    """One format of exports: how it is written and run again.

    `precision` is the type of what is not quantized, `check` refuses a model the format or its
    target cannot take, `write` fills a folder, `open` runs what is there.
    """

    name: str
    target: str | None
    precision: str
    check: Callable[[OneStepModel], None]
    write: Callable[[OneStepModel, Artifact, Path, int | None], None]
    open: Callable[[Path, ModelDescription], Executor]


def find_format(
    name: str,
    target: str | None = None,
    precision: str | None = None,
    size_px: int | None = None,
) -> Format:
    """The format of this name, by default in the precision its target likes.

    Raises `ConfigError` if there is none, or not for the target, in this precision or of this size.
    """
    check_format(name, target, precision, size_px)
    if name == "onnx":
        return _onnx(target, precision or ("fp16" if target == TENSORRT else "fp32"))
    return {"openvino": _openvino, "safetensors": _safetensors}[name]()


def check_format(name: str, target: str | None, precision: str | None, size_px: int | None) -> None:
    """Refuse a format that is unknown, not installed, not for the target, not in this precision or
    of no size.

    Imports no torch.
    """
    if name not in NAMES:
        raise ConfigError(f"unknown format '{name}'{suggestion(name, NAMES)}")
    if name == "onnx":
        require_onnx()
    if precision not in (None, *ONNX_PRECISIONS):
        raise ConfigError(f"unknown precision '{precision}'; use {' or '.join(ONNX_PRECISIONS)}")
    if precision == "fp16" and name != "onnx":
        raise ConfigError(f"--precision fp16 is for onnx; {name} is written in fp32")
    if size_px is not None and name == "safetensors":
        raise ConfigError(
            f"--size {size_px} is for openvino and onnx; safetensors is tensors, which take images "
            "of any size: leave --size out"
        )
    if target is not None and (name, target) != ("onnx", TENSORRT):
        raise ConfigError(f"--target {target} does not go with {name}; use onnx and {TENSORRT}")


def _nothing_to_check(model: OneStepModel) -> None:
    pass


def _openvino() -> Format:
    from passionsr_cli.conversion.graph_files import write_graphs
    from passionsr_cli.conversion.stored_graphs import GraphFolder
    from passionsr_cli.graphs.arithmetic import graph_for_this_cpu
    from passionsr_cli.inference.openvino_executor import OpenVINOExecutor

    return Format(
        "openvino",
        None,
        "fp32",
        _nothing_to_check,
        lambda model, source, folder, size_px: write_graphs(
            model, folder, size_px, graph_for_this_cpu
        ),
        lambda folder, description: OpenVINOExecutor(description, GraphFolder(folder), "fp32"),
    )


def _onnx(target: str | None, precision: str) -> Format:
    from passionsr_cli.conversion.onnx_files import write_onnx
    from passionsr_cli.conversion.stored_graphs import GraphFolder
    from passionsr_cli.exports.targets import refuse_zero_points
    from passionsr_cli.inference.onnx_executor import OnnxExecutor

    return Format(
        "onnx",
        target,
        precision,
        refuse_zero_points if target == TENSORRT else _nothing_to_check,
        lambda model, source, folder, size_px: write_onnx(model, folder, size_px, precision),
        lambda folder, description: OnnxExecutor(description, GraphFolder(folder), precision),
    )


def _safetensors() -> Format:
    return Format("safetensors", None, "fp32", _nothing_to_check, _copy, _open_copy)


def _copy(model: OneStepModel, artifact: Artifact, folder: Path, size_px: int | None) -> None:
    """The store's own files: tensors packed to their bits, and the manifest that explains them."""
    entry = artifact.entry
    shutil.copyfile(entry.tensors_path, folder / entry.tensors_path.name)
    shutil.copyfile(entry.folder / MANIFEST_FILE, folder / MANIFEST_FILE)


def _open_copy(folder: Path, description: ModelDescription) -> Executor:
    from passionsr_cli.inference.torch_executor import TorchExecutor
    from passionsr_cli.system.devices import open_device

    return TorchExecutor(resolve(str(folder)).load(), open_device("cpu", "fp32"))
