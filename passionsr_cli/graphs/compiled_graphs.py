"""Compiled graphs of a model, each made once, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.graphs.mapped_graphs import MappedFile
from passionsr_cli.system.environment import environment_read

# Each size of a tile is compiled for itself; so many stay for each component, here and on disk.
KEPT_SIZES = 4


@dataclass(frozen=True)
class CompiledGraph:
    """`requests` are those that nobody uses now; `file` is what an imported graph still points
    into."""

    requests: SimpleQueue[Any]
    kernels: KernelReport
    file: MappedFile | None = None


class CompiledGraphs:
    """Compiled graphs by name, which the forms of an executor share: the last of each component.

    A name is the component's and, behind a hyphen, what it is compiled for.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Future[CompiledGraph]] = {}
        self._forgotten: list[KernelReport] = []
        self._lock = threading.Lock()

    def begin(self, name: str, make: Callable[[], CompiledGraph]) -> Future[CompiledGraph]:
        """The graph of this name, which `make` begins to make if it is not there; what failed is
        begun again."""
        with self._lock:
            known = self._by_name.pop(name, None)
            if known is None or (known.done() and known.exception()):
                known = Future()
                threading.Thread(target=_settle, args=(known, make), name="graph").start()
            # In the order of their last use.
            self._by_name[name] = known
            self._let_go(self._names([name.partition("-")[0]])[:-KEPT_SIZES])
            return known

    def forget(self, components: Collection[str]) -> None:
        """Let go of the graphs that are there of these components: their memory is free when nobody
        computes with them any more, and they are made again when they are asked for."""
        with self._lock:
            self._let_go(self._names(components))

    def _names(self, components: Collection[str]) -> list[str]:
        return [name for name in self._by_name if name.partition("-")[0] in components]

    def _let_go(self, names: Iterable[str]) -> None:
        for name in names:
            if (graph := _made(self._by_name[name])) is not None:
                del self._by_name[name]
                if graph.kernels not in self._forgotten:
                    self._forgotten.append(graph.kernels)

    def kernels(self) -> list[KernelReport]:
        """Kernels of all graphs that are there, and which others had that were."""
        with self._lock:
            graphs = [_made(future) for future in self._by_name.values()]
            return [*self._forgotten, *(graph.kernels for graph in graphs if graph is not None)]


def _made(future: Future[CompiledGraph]) -> CompiledGraph | None:
    return future.result() if future.done() and future.exception() is None else None


def _settle(future: Future[CompiledGraph], make: Callable[[], CompiledGraph]) -> None:
    try:
        with environment_read():
            graph = make()
        future.set_result(graph)
    except BaseException as error:
        future.set_exception(error)
