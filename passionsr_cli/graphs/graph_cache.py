"""Converted and compiled graphs on disk: written whole, verified before use, else made again."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passionsr_cli.conversion.kernels import KernelReport, kernel_report
from passionsr_cli.conversion.stored_graphs import StoredGraph, read_graphs
from passionsr_cli.errors import StoreError
from passionsr_cli.graphs.compiled_graphs import KEPT_SIZES
from passionsr_cli.progress import Reporter
from passionsr_cli.system.claims import alone
from passionsr_cli.system.files import (
    read_json,
    remove,
    replace_atomically,
    sha256_of,
    temporary_folder,
    temporary_space,
    write_memory,
)
from passionsr_cli.system.memory import returned_when_freed

if TYPE_CHECKING:
    from passionsr_cli.conversion.prepared_graphs import PreparedGraphs
    from passionsr_cli.models.one_step import OneStepModel

COMPILED_FOLDER = "compiled"


class GraphCache:
    """The graphs of one model in one folder.

    `load` gives the model if it has to be converted, which `write` does into a folder, by default
    as OpenVINO graphs for this CPU; `prepared` graphs spare both. `reporter` hears what takes long
    and why. Where the folder cannot be written, a temporary one is used.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[], OneStepModel],
        reporter: Reporter,
        write: Callable[[OneStepModel, Path], None] | None = None,
        prepared: PreparedGraphs | None = None,
    ) -> None:
        self.folder, self._load = folder, load
        self._reporter, self._note = reporter, reporter.note
        self._convert, self._prepared = write or _write_for_this_cpu, prepared
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._graphs: dict[str, StoredGraph] | None = None

    def graph(self, component: str) -> StoredGraph:
        """A component's graph, converted now if it is not here or not what was written."""
        if self._graphs is None or not self.folder.exists():
            self._graphs = self._read()
        if self._graphs is None:
            if self._prepared is None:
                self._note("converting the model, once; later runs start from the cache")
            self._graphs = self._write()
            self._tell_of_overflow(self._graphs)
        return self._graphs[component]

    def _read(self) -> dict[str, StoredGraph] | None:
        if not self.folder.exists():
            return None
        try:
            return read_graphs(self.folder)
        except StoreError as error:
            self._note(f"the cache {error}")
            return None

    def _write(self) -> dict[str, StoredGraph]:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            # What a kill or Ctrl-C leaves there, `write_graphs` goes on with.
            unfinished = self.folder.with_name(f".{self.folder.name}")
            # Of several processes one converts, and the others wait and take what it made.
            with alone(unfinished, "converts this model", self._reporter):
                with contextlib.suppress(StoreError, OSError):
                    return read_graphs(self.folder)
                remove(self.folder)
                try:
                    if unfinished.is_symlink():
                        unfinished.unlink()
                    unfinished.mkdir(exist_ok=True)
                    self._write_into(unfinished)
                    os.replace(unfinished, self.folder)
                except Exception:
                    remove(unfinished)
                    raise
        except OSError as error:
            self._note(f"cannot cache under {self.folder.parent}: {error.strerror or error}")
            with temporary_space():
                self._temporary = temporary_folder()
                self.folder = Path(self._temporary.name)
                self._write_into(self.folder)
        return read_graphs(self.folder)

    def _write_into(self, folder: Path) -> None:
        if self._prepared is not None:
            self._prepared.complete(folder)
            return
        # The model must go before graphs are compiled.
        with returned_when_freed():
            self._convert(self._load(), folder)

    def _tell_of_overflow(self, graphs: dict[str, StoredGraph]) -> None:
        floating = sum(len(graph.overflowing) for graph in graphs.values())
        if floating:
            total = sum(len(graph.layers) - len(graph.folded) for graph in graphs.values())
            self._note(
                f"{floating} of {total} layers run in floating point: this CPU has no instructions "
                "for products of 8-bit integers (VNNI or AMX); weights of up to 6 bits run on "
                "integers here as well"
            )

    def compiled(self, name: str) -> tuple[Path, KernelReport] | None:
        """The file `keep` wrote under this name, or None if that is not there or not whole."""
        path = self.folder / COMPILED_FOLDER / f"{name}.blob"
        try:
            notes = read_json(path.with_suffix(".json"))
            if sha256_of(path) != notes["sha256"]:
                raise ValueError("its SHA-256 is another")
            return path, kernel_report(notes["ran"])
        except OSError:
            # Behind links that lead in a circle, too, nothing was ever kept.
            return None
        except (ValueError, KeyError, TypeError) as error:
            self._note(f"{path} is damaged, compiling again: {error}")
            return None

    def keep(self, name: str, compiled: Any, ran: KernelReport) -> None:
        """Write a compiled graph; on a disk that is full it is just not kept."""
        path = self.folder / COMPILED_FOLDER / f"{name}.blob"
        try:
            with replace_atomically(path) as temporary:
                write_memory(temporary, compiled.export_model())
            notes = json.dumps({"sha256": sha256_of(path), "ran": asdict(ran)})
            with replace_atomically(path.with_suffix(".json")) as temporary:
                temporary.write_text(notes, encoding="utf-8")
            component = name.partition("-")[0]
            blobs = sorted(path.parent.glob(f"{component}-*.blob"), key=lambda p: p.stat().st_mtime)
            for old in blobs[:-KEPT_SIZES]:
                old.with_suffix(".json").unlink(missing_ok=True)
                old.unlink(missing_ok=True)
        except OSError as error:
            self._note(f"cannot keep {path}: {error.strerror or error}")


def _write_for_this_cpu(model: OneStepModel, folder: Path) -> None:
    from passionsr_cli.conversion.graph_files import write_graphs
    from passionsr_cli.graphs.arithmetic import graph_for_this_cpu

    write_graphs(model, folder, convert=graph_for_this_cpu)
