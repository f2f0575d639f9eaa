"""CUDA graphs: all launches of a tile as one, in memory that stays where it is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from passionsr_cli.progress import Reporter
from passionsr_cli.system.memory import is_out_of_memory

# Each keeps the memory of its activations; an image has tiles of one shape, but for a last batch.
MOST_GRAPHS = 4
# The first runs choose blocks and fill caches, which no graph may hold.
WARM_UPS = 2
Function = Callable[..., Tensor]


class Recordings:
    """Functions of one tensor, which run as a CUDA graph where the same shape comes again.

    What comes once is not worth a recording. What cannot be recorded, such as a function that asks
    the GPU for a number, runs as it is from then on, which is said.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._note = reporter.note
        self._seen: set[Hashable] = set()
        self._recorded: OrderedDict[Hashable, Callable[[Tensor], Tensor]] = OrderedDict()
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
        case = (function.__name__, x.shape, *constants)
        if not self._possible or case not in self._seen:
            self._seen.add(case)
            return function(x, *constants)
        if case not in self._recorded:
            try:
                self._recorded[case] = record(lambda held: function(held, *constants), x)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self._possible = False
                self._note(f"without CUDA graphs: {str(error).partition(chr(10))[0]}")
                return function(x, *constants)
        self._recorded.move_to_end(case)
        if len(self._recorded) > MOST_GRAPHS:
            self._recorded.popitem(last=False)
        return self._recorded[case](x)


def record(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of a tensor on a GPU as a CUDA graph, for tensors of the shape of `x`.

    Its memory is fixed: all that the function allocates is the graph's own. Raises `RuntimeError`
    for a function that cannot be recorded.
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
    with torch.cuda.graph(graph):
        result = function(held)

    def replay(x: Tensor) -> Tensor:
        held.copy_(x)
        graph.replay()
        # The next replay writes over it.
        return result.clone()

    return replay
