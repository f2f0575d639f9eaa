"""Observers of a tensor's values while calibration images pass by."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from passionsr_cli.errors import FitError

MOMENTUM = 0.95
NO_DATA = "a quantizer saw no data; pass calibration images through it first"
# Values kept of a tensor, at a time and in all.
SAMPLE_AT_A_TIME, LARGEST_SAMPLE = 4096, 1 << 16

Bounds = tuple[Tensor, Tensor]


class Observer(Protocol):
    """Takes note of a tensor; its state is that of the batches that have ended."""

    def observe(self, x: Tensor) -> None: ...

    def end_batch(self) -> None: ...

    def forget(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


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
        """Begin another batch."""
        if self._batch is not None:
            self._average, self._batch = self.bounds(), None

    def bounds(self) -> Bounds:
        """Observed extremes (lower, upper)."""
        if self._average is None or self._batch is None:
            seen = self._average or self._batch
            if seen is None:
                raise FitError(NO_DATA)
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
        """State as of the end of the last batch."""
        lower, upper = self._average or (None, None)
        return {"lower": lower, "upper": upper}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was seen earlier."""
        self.forget()
        if state_dict["lower"] is not None:
            self._average = state_dict["lower"], state_dict["upper"]


class SampleObserver:
    """Some of the values that pass, evenly spread over each tensor and over the images."""

    def __init__(self) -> None:
        self._values: Tensor | None = None
        self._batch: list[Tensor] = []
        # One of this many values is kept: of new images as many as of those before.
        self._every = 1

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Keep some values of a batch, or of a piece of one."""
        values = x.detach().float().flatten()
        # Odd, so that no row or channel of an even width is met again and again.
        stride = (len(values) // SAMPLE_AT_A_TIME) | 1
        self._batch.append(values[::stride].clone())

    def end_batch(self) -> None:
        """Begin another batch."""
        if self._batch:
            self._values, self._batch = self.values(), []
            while len(self._values) > LARGEST_SAMPLE:
                # Odd, as the stride.
                self._values = self._values[::3]
                self._every *= 3

    def values(self) -> Tensor:
        """The sample (n,)."""
        earlier = [] if self._values is None else [self._values]
        kept = [*earlier, *(values[:: self._every] for values in self._batch)]
        if not kept:
            raise FitError(NO_DATA)
        return torch.cat(kept)

    def forget(self) -> None:
        """Start anew."""
        self._values, self._batch, self._every = None, [], 1

    def state_dict(self) -> dict[str, Any]:
        """State as of the end of the last batch."""
        return {"values": self._values, "every": self._every}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was kept earlier."""
        self._values, self._batch = state_dict["values"], []
        self._every = state_dict["every"]


class DeviationObserver:
    """The standard deviation of each channel of (…, C)."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._batch: Tensor | None = None

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take a batch, or a piece of one, into account."""
        values = x.detach().double().flatten(0, -2)
        sums = torch.stack([torch.ones_like(values), values, values.square()]).sum(1)
        self._batch = sums if self._batch is None else self._batch + sums

    def end_batch(self) -> None:
        """Begin another batch."""
        if self._batch is not None:
            self._sums = self._batch if self._sums is None else self._sums + self._batch
            self._batch = None

    def deviation(self) -> Tensor:
        """Observed deviations (C,), float32."""
        seen = [sums for sums in (self._sums, self._batch) if sums is not None]
        if not seen:
            raise FitError(NO_DATA)
        count, total, squares = torch.stack(seen).sum(0).unbind()
        return (squares / count - (total / count).square()).clamp_min(0).sqrt().float()

    def forget(self) -> None:
        """Start anew."""
        self._sums = self._batch = None

    def state_dict(self) -> dict[str, Any]:
        """Sums until the last batch ended."""
        return {"sums": self._sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was seen earlier."""
        self._sums, self._batch = state_dict["sums"], None
