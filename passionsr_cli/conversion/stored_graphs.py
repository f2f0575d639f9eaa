"""OpenVINO graphs of a model's components in a folder, with a list that proves them whole.

Imports neither torch nor OpenVINO.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.errors import StoreError
from passionsr_cli.system.files import read_json, sha256_of

GRAPHS_FILE = "graphs.json"
# Behind a layer's name: the products of its branch.
BRANCH_SUFFIX = "/branch"


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


def read_graphs(folder: Path) -> dict[str, StoredGraph]:
    """Read what `write_graphs` wrote. Raises `StoreError` if any of it is missing or changed."""
    try:
        listing = read_json(folder / GRAPHS_FILE)
        for name, digest in listing["files"].items():
            if sha256_of(folder / name) != digest:
                raise StoreError(f"{folder} is damaged: {name} is not what was written")
        return {
            name: StoredGraph(
                folder / f"{name}.xml",
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
