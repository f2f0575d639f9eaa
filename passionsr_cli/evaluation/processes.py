"""Several processes that share one evaluation, as `accelerate launch` or torchrun start them.

They share the output folder, where each image's record lies in a file of its own; what passes
between them is only that a step is finished.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

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

    def device(self, chosen: torch.device) -> str:
        """This process's device of a kind: of several GPUs each has its own."""
        if self.count > 1 and chosen.type == "cuda" and chosen.index is None:
            import torch

            local = int(os.environ.get("LOCAL_RANK", "0"))
            return f"cuda:{local % torch.cuda.device_count()}"
        return str(chosen)

    def wait(self) -> None:
        """Go on when all have come this far."""
        if self.count > 1:
            from torch.distributed import barrier

            barrier()
