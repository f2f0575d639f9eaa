"""CUDA graphs: all launches of a tile as one, in memory that stays where it is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from passionsr_cli.progress import Reporter
from passionsr_cli.system.memory import is_out_of_memory

# Each keeps the memory of its activations; an image has tiles of one shape, but for a last batch.
MOST_GRAPHS = 4
# The first runs choose blocks and fill caches, which no graph may hold.
WARM_UPS = 2
Function = Callable[..., Tensor]
# As torch names a pool of memory.
Pool = Any


class Recordings:
    """Functions of one tensor, which run as a CUDA graph where the same shape comes again.

    What comes once is not worth a recording. What cannot be recorded, such as a function that asks
    the GPU for a number, or for which there is too little memory, runs as it is from then on.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._note = reporter.note
        self._seen: set[Hashable] = set()
        self._recorded: OrderedDict[Hashable, Function] = OrderedDict()
        self._pool: Pool = None
        self._possible = True

    def __call__(self, function: Function, x: Tensor, *constants: Hashable) -> Tensor:
        """The function of `x` and of constants, which are part of a recording."""
        try:
            return self._result(function, x, *constants)
        except RuntimeError as error:
            if is_out_of_memory(error):
                # Smaller tiles come next, and what was recorded of larger ones keeps its memory.
                self._recorded.clear()
            raise

    def _result(self, function: Function, x: Tensor, *constants: Hashable) -> Tensor:
        case = (function, x.shape, *constants)
        if not self._possible or case not in self._seen:
            self._seen.add(case)
            return function(x, *constants)
        if case not in self._recorded:
            self._recorded[case] = self._record(lambda held: function(held, *constants), x)
            if len(self._recorded) > MOST_GRAPHS:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(case)
        return self._recorded[case](x)

    def _record(self, function: Function, x: Tensor) -> Function:
        """Stand-in for a function: its recording, or itself."""
        try:
            replay, self._pool = record(function, x, self._pool)
        except RuntimeError as error:
            if is_out_of_memory(error):
                torch.cuda.empty_cache()
            else:
                self._possible = False
            self._note(f"without CUDA graphs: {str(error).partition(chr(10))[0]}")
            return function
        return replay


def record(function: Function, x: Tensor, pool: Pool = None) -> tuple[Function, Pool]:
    """A function of a tensor on a GPU as a CUDA graph, for tensors of the shape of `x`.

    Its memory is fixed: all that the function allocates is the graph's own. What a graph needs only
    while it runs lies in a pool, which graphs that never run at once may share; it is given back.
    Raises `RuntimeError` for a function that cannot be recorded.
    """
    held = x.clone()
    # As torch asks for: warm up on another stream than the one that is recorded.
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            function(held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        result = function(held)

    def replay(x: Tensor) -> Tensor:
        held.copy_(x)
        graph.replay()
        # The next replay writes over it.
        return result.clone()

    return replay, graph.pool()
