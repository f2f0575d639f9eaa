"""Compiled graphs of a model, each made once, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.inference.mapped_graphs import MappedFile


@dataclass(frozen=True)
class CompiledGraph:
    """`requests` are those that nobody uses now; `file` is what an imported graph still points
    into."""

    requests: SimpleQueue[Any]
    kernels: KernelReport
    file: MappedFile | None = None


class CompiledGraphs:
    """Compiled graphs by name, which the forms of an executor share."""

    def __init__(self) -> None:
        self._by_name: dict[str, Future[CompiledGraph]] = {}
        self._forgotten: list[KernelReport] = []
        self._lock = threading.Lock()

    def begin(self, name: str, make: Callable[[], CompiledGraph]) -> Future[CompiledGraph]:
        """The graph of this name, which `make` begins to make if it is not there; what failed is
        begun again."""
        with self._lock:
            known = self._by_name.get(name)
            if known is None or (known.done() and known.exception()):
                known = self._by_name[name] = Future()
                threading.Thread(target=_settle, args=(known, make), name="graph").start()
            return known

    def forget(self, names: Collection[str]) -> None:
        """Let go of the graphs that are there of components of these names: their memory is free
        when nobody computes with them any more, and they are made again when they are asked for."""
        with self._lock:
            for name, future in list(self._by_name.items()):
                if name.partition("-")[0] in names and (graph := _made(future)) is not None:
                    self._forgotten.append(graph.kernels)
                    del self._by_name[name]

    def kernels(self) -> list[KernelReport]:
        """Kernels of all graphs that are there or were."""
        with self._lock:
            graphs = [_made(future) for future in self._by_name.values()]
            return [*self._forgotten, *(graph.kernels for graph in graphs if graph is not None)]


def _made(future: Future[CompiledGraph]) -> CompiledGraph | None:
    return future.result() if future.done() and future.exception() is None else None


def _settle(future: Future[CompiledGraph], make: Callable[[], CompiledGraph]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:
        future.set_exception(error)
