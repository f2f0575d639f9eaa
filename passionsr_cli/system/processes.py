"""Several processes that share a work, as `accelerate launch` or torchrun start them.

They share the output folder; what passes between them is only that a step is finished, and what
came of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from itertools import zip_longest
from typing import Any, TypeVar

T = TypeVar("T")

# Images of a large model take minutes each; whoever is done first waits for the others.
PATIENCE = timedelta(days=7)


class Processes:
    """This process among those that share the work."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.count > 1 else 0
        if self.count > 1:
            from accelerate import PartialState

            PartialState(cpu=True, timeout=PATIENCE)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of the items."""
        return list(items[self.rank :: self.count])

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, in the order in which `share` dealt them out."""
        if self.count == 1:
            return list(items)
        from torch.distributed import all_gather_object

        parts: list[Any] = [None] * self.count
        all_gather_object(parts, list(items))
        rounds = zip_longest(*parts, fillvalue=None)
        return [item for each in rounds for item in each if item is not None]

    def wait(self) -> None:
        """Go on when all have come this far."""
        if self.count > 1:
            from torch.distributed import barrier

            barrier()
