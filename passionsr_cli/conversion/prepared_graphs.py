"""Graphs that a store entry brings along, without the weights its tensors hold already.

    COMPONENT.xml.gz    as OpenVINO wrote it
    weights.json        of what each COMPONENT.bin consists, one piece after the other: tensors of
                        the entry in one of `FORMS`, and what is no weight in base64

They become the very files that `write_graphs` wrote, which their SHA-256 proves. Imports neither
torch nor OpenVINO.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from passionsr_cli.conversion.stored_graphs import GRAPHS_FILE
from passionsr_cli.errors import StoreError
from passionsr_cli.quantization.schemes import Scheme
from passionsr_cli.store import Entry

WEIGHTS_FILE = "weights.json"
# What is left of a graph but its weights: shapes, axes, bounds of grids.
MOST_LITERAL_BYTES = 1 << 20

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
# A tensor's name and its form, or bytes in base64.
Piece = list[str] | str


def _float32(tensors: Tensors, name: str) -> Array:
    return tensors[name].astype(np.float32)


def _int8(tensors: Tensors, name: str) -> Array:
    """The integers of 8-bit symmetric weights, which are stored less their smallest."""
    quant_min = Scheme(8, symmetric=True).quant_min
    return (tensors[name].astype(np.int16) + quant_min).astype(np.int8)


def _dequantized(tensors: Tensors, name: str) -> Array:
    """The same times the scale of each output channel."""
    scale = tensors[f"{name}_scale"].reshape(-1, 1)
    integers: Array = _int8(tensors, name).astype(np.float32).reshape(len(scale), -1)
    return integers * scale


FORMS = {"float32": _float32, "int8": _int8, "dequantized": _dequantized}


@dataclass(frozen=True)
class PreparedGraphs:
    """A folder of prepared graphs and the entry whose tensors are their weights."""

    folder: Path
    entry: Entry

    def complete(self, folder: Path) -> None:
        """Write what `write_graphs` would have written into a folder.

        Raises `StoreError` where the prepared graphs are damaged, `OSError` where `folder` cannot
        be written.
        """
        try:
            files = dict(self._files())
        except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError) as error:
            raise StoreError(
                f"{self.folder} is damaged ({error}); install passionsr again"
            ) from error
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        recipe, tensors = _read(self.folder), self.entry.arrays()
        for component, pieces in recipe["weights"].items():
            packed = (self.folder / f"{component}.xml.gz").read_bytes()
            yield f"{component}.xml", gzip.decompress(packed)
            yield f"{component}.bin", b"".join(_bytes_of(piece, tensors) for piece in pieces)
        yield GRAPHS_FILE, json.dumps(recipe["graphs"], indent=2).encode()


def prepared_folder(entry: Entry, saturating: bool) -> Path:
    """Folder of an entry's prepared graphs, for CPUs whose sums of products saturate or others."""
    return entry.folder / ("graphs-saturating" if saturating else "graphs")


def find_prepared(entry: Entry, made_of: str, saturating: bool) -> PreparedGraphs | None:
    """The graphs that an entry brings along, if it does and they are made of this."""
    folder = prepared_folder(entry, saturating)
    try:
        found = _read(folder)["made_of"] == made_of
    except (OSError, ValueError, KeyError):
        return None
    return PreparedGraphs(folder, entry) if found else None


def write_prepared(graphs: Path, entry: Entry, made_of: str, folder: Path) -> None:
    """Take the weights out of the graphs `write_graphs` wrote, and write the rest into a folder.

    `made_of` is another for what computes otherwise. Raises `StoreError` where the weights are not
    the tensors of the entry.
    """
    listing = json.loads((graphs / GRAPHS_FILE).read_text(encoding="utf-8"))
    known = _known_forms(entry.arrays())
    weights = {name: list(_pieces(graphs, name, known)) for name in listing["components"]}
    literal = sum(len(piece) for of in weights.values() for piece in of if isinstance(piece, str))
    if literal > MOST_LITERAL_BYTES:
        raise StoreError(
            f"{graphs} holds {literal} bytes that are no tensors of '{entry.name}', at most "
            f"{MOST_LITERAL_BYTES} can be brought along; the forms of weights are in {__name__}"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in weights:
        packed = gzip.compress((graphs / f"{name}.xml").read_bytes(), mtime=0)
        (folder / f"{name}.xml.gz").write_bytes(packed)
    recipe = {"made_of": made_of, "graphs": listing, "weights": weights}
    (folder / WEIGHTS_FILE).write_text(json.dumps(recipe) + "\n", encoding="utf-8")


def _read(folder: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads((folder / WEIGHTS_FILE).read_text(encoding="utf-8"))
    return recipe


def _bytes_of(piece: Piece, tensors: Tensors) -> bytes:
    if isinstance(piece, str):
        return base64.b64decode(piece)
    name, form = piece
    return FORMS[form](tensors, name).tobytes()


def _known_forms(tensors: Tensors) -> dict[bytes, Piece]:
    """Bytes that a weight may be in a graph, and the form of which tensor they are."""
    forms: dict[bytes, Piece] = {}
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f":
            forms[_float32(tensors, name).tobytes()] = [name, "float32"]
        elif tensor.dtype == np.uint8 and f"{name}_zero_point" not in tensors:
            for form in ("int8", "dequantized"):
                forms[FORMS[form](tensors, name).tobytes()] = [name, form]
    return forms


def _pieces(graphs: Path, component: str, known: Mapping[bytes, Piece]) -> Iterator[Piece]:
    """A component's weights in their order; constants may share their bytes."""
    content = (graphs / f"{component}.bin").read_bytes()
    layers = ElementTree.parse(graphs / f"{component}.xml").iter("layer")
    constants = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    places = sorted(
        (int(data.attrib["offset"]), int(data.attrib["size"]))
        for data in constants
        if data is not None
    )
    done = 0
    for offset, size in places:
        piece = known.get(content[offset : offset + size])
        if piece is not None and offset >= done:
            if offset > done:
                yield _literal(content[done:offset])
            yield piece
            done = offset + size
    if done < len(content):
        yield _literal(content[done:])


def _literal(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
