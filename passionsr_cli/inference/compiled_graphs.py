"""Compiled graphs of a model, each made once, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
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

    def made(self) -> list[CompiledGraph]:
        """All that are there."""
        with self._lock:
            known = list(self._by_name.values())
        return [each.result() for each in known if each.done() and each.exception() is None]


def _settle(future: Future[CompiledGraph], make: Callable[[], CompiledGraph]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:
        future.set_exception(error)
