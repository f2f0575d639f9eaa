"""What a tensor's values reach while calibration images pass by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from passionsr_cli.errors import FitError

MOMENTUM = 0.95


class MinMaxObserver:
    """Smallest and largest value seen, per tensor or per channel, as a moving average.

    The first batch sets both, each later one moves them by 1 − momentum (PassionSR's static
    activation bounds, arXiv 2411.17106: 0.95).
    """

    def __init__(self, channel_axis: int | None = None, momentum: float = MOMENTUM) -> None:
        self.channel_axis, self.momentum = channel_axis, momentum
        self.lower: Tensor | None = None
        self.upper: Tensor | None = None

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take one batch into account."""
        values = x.detach().float()
        if self.channel_axis is None:
            lower, upper = values.aminmax()
        else:
            axis = self.channel_axis % values.dim()
            others = [other for other in range(values.dim()) if other != axis]
            lower, upper = values.amin(others), values.amax(others)
        self.lower = lower if self.lower is None else self._moved(self.lower, lower)
        self.upper = upper if self.upper is None else self._moved(self.upper, upper)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """What was seen, as (lower, upper)."""
        if self.lower is None or self.upper is None:
            raise FitError("a quantizer saw no data; pass calibration images through it first")
        return self.lower, self.upper

    def forget(self) -> None:
        """Start anew."""
        self.lower = self.upper = None

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {"lower": self.lower, "upper": self.upper}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was seen earlier."""
        self.lower, self.upper = state_dict["lower"], state_dict["upper"]

    def _moved(self, old: Tensor, new: Tensor) -> Tensor:
        return self.momentum * old + (1 - self.momentum) * new
