"""What a tensor's values reach while calibration images pass by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from passionsr_cli.errors import FitError

MOMENTUM = 0.95

Bounds = tuple[Tensor, Tensor]


class MinMaxObserver:
    """Smallest and largest value seen, per tensor or per channel, as a moving average.

    The first batch sets both, each later one moves them by 1 − momentum (PassionSR's static
    activation bounds, arXiv 2411.17106: 0.95). A batch may come in pieces: it is over when
    `end_batch` says so.
    """

    def __init__(self, channel_axis: int | None = None, momentum: float = MOMENTUM) -> None:
        self.channel_axis, self.momentum = channel_axis, momentum
        self._average: Bounds | None = None
        self._batch: Bounds | None = None

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take a batch, or a piece of one, into account."""
        values = x.detach().float()
        if self.channel_axis is None:
            lower, upper = values.aminmax()
        else:
            axis = self.channel_axis % values.dim()
            others = [other for other in range(values.dim()) if other != axis]
            lower, upper = values.amin(others), values.amax(others)
        if self._batch is not None:
            lower, upper = lower.minimum(self._batch[0]), upper.maximum(self._batch[1])
        self._batch = lower, upper

    def end_batch(self) -> None:
        """What is observed from now on is of another batch."""
        if self._batch is not None:
            self._average, self._batch = self.bounds(), None

    def bounds(self) -> Bounds:
        """What was seen, as (lower, upper)."""
        if self._average is None or self._batch is None:
            seen = self._average or self._batch
            if seen is None:
                raise FitError("a quantizer saw no data; pass calibration images through it first")
            return seen
        lower, upper = (
            self.momentum * old + (1 - self.momentum) * new
            for old, new in zip(self._average, self._batch, strict=True)
        )
        return lower, upper

    def forget(self) -> None:
        """Start anew."""
        self._average = self._batch = None

    def state_dict(self) -> dict[str, Any]:
        """What was seen until the last batch ended."""
        lower, upper = self._average or (None, None)
        return {"lower": lower, "upper": upper}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was seen earlier."""
        self.forget()
        if state_dict["lower"] is not None:
            self._average = state_dict["lower"], state_dict["upper"]
