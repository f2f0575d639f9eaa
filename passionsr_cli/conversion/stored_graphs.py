"""Graphs of a model's components in a folder, with a list that proves them whole.

Imports neither torch nor OpenVINO.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import StoreError
from passionsr_cli.models.components import COMPONENTS, ENCODER
from passionsr_cli.system.files import read_json, replace_atomically, sha256_of

GRAPHS_FILE = "graphs.json"
# COMPONENT.xml is OpenVINO's, COMPONENT.onnx is ONNX.
SUFFIXES = (".xml", ".onnx")
# Behind a layer's name: the products of its branch.
BRANCH_SUFFIX = "/branch"
# And, with a number: the parts of a layer that is computed in several.
PART_SUFFIX = "/part"


@dataclass(frozen=True)
class StoredGraph:
    """A converted component on disk, and the names `ComponentGraph` has of its layers."""

    path: Path
    layers: tuple[str, ...]
    folded: tuple[str, ...]
    attentions: tuple[str, ...]
    overflowing: tuple[str, ...] = ()


def attention_products(name: str) -> tuple[str, str]:
    """OpenVINO's names of q·kᵀ and of the product with v of a quantized attention."""
    product = f"__module.model.{name}.processor/aten::matmul/MatMul"
    return product, f"{product}_1"


def component_side(description: ModelDescription, component: str, size_px: int) -> int:
    """A side of a component's input when the upscaled image has sides of `size_px`."""
    return size_px if component == ENCODER else size_px // description.latent_factor


def missing_components(folder: Path) -> list[str]:
    """The components that are yet to be written: those that are listed and whole stay."""
    try:
        there = read_graphs(folder)
    except StoreError:
        (folder / GRAPHS_FILE).unlink(missing_ok=True)
        there = {}
    return [component for component in COMPONENTS if component not in there]


def list_component(folder: Path, component: str, names: Mapping[str, Any]) -> None:
    """List that a folder holds a component: its files, and the names of its layers."""
    path = folder / GRAPHS_FILE
    listing = read_json(path) if path.exists() else {"components": {}, "files": {}}
    listing["components"][component] = names
    files = {each.name: sha256_of(each) for each in folder.glob(f"{component}.*")}
    listing["files"] = dict(sorted({**listing["files"], **files}.items()))
    with replace_atomically(path) as temporary:
        temporary.write_text(json.dumps(listing, indent=2), encoding="utf-8")


def read_graphs(folder: Path) -> dict[str, StoredGraph]:
    """Read the graphs that `list_component` listed.

    Raises `StoreError` if any of it is missing or changed.
    """
    try:
        listing = read_json(folder / GRAPHS_FILE)
        for name, digest in listing["files"].items():
            if sha256_of(folder / name) != digest:
                raise StoreError(f"{folder} is damaged: {name} is not what was written")
        return {
            name: StoredGraph(
                _graph_file(folder, name, listing["files"]),
                tuple(entry["layers"]),
                tuple(entry["folded"]),
                tuple(entry["attentions"]),
                tuple(entry["overflowing"]),
            )
            for name, entry in listing["components"].items()
        }
    except FileNotFoundError as error:
        raise StoreError(f"{folder} is incomplete: {error.filename} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder} is damaged: {error}") from error


def _graph_file(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    found = [f"{name}{suffix}" for suffix in SUFFIXES if f"{name}{suffix}" in files]
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} graphs of the {name}")
    return folder / found[0]


class Graphs(Protocol):
    """Source of an executor's graphs: a folder, or a cache that also keeps compiled ones."""

    def graph(self, component: str) -> StoredGraph: ...

    def compiled(self, name: str) -> tuple[Path, KernelReport] | None: ...

    def keep(self, name: str, compiled: Any, ran: KernelReport) -> None: ...


class GraphFolder:
    """The graphs of a folder as an executor takes them; nothing compiled is kept."""

    def __init__(self, folder: Path) -> None:
        self._graphs = read_graphs(folder)

    def graph(self, component: str) -> StoredGraph:
        return self._graphs[component]

    def compiled(self, name: str) -> None:
        return None

    def keep(self, name: str, compiled: Any, ran: KernelReport) -> None:
        pass
