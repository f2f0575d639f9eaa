"""Images that come from top to bottom in strips, so that none need be there as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np

from passionsr_cli.pixels.arrays import Array

STRIP_PX = 128


class RowStream:
    """Windows on an image (C, H, W) that arrives in strips of any heights, in order.

    What lies above a window is forgotten: windows must not begin above earlier ones.
    """

    def __init__(self, strips: Iterable[Array]) -> None:
        self._strips = iter(strips)
        self._kept: list[Array] = []
        self._first = self._last = 0

    def window(self, first: int, last: int) -> Array:
        """Rows `first` … `last` − 1."""
        while self._last < last:
            strip = next(self._strips)
            self._kept.append(strip)
            self._last += strip.shape[-2]
        while self._first + self._kept[0].shape[-2] <= first:
            self._first += self._kept.pop(0).shape[-2]
        parts, top = [], self._first
        for strip in self._kept:
            parts.append(strip[:, max(0, first - top) : max(0, last - top)])
            top += strip.shape[-2]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)


def spans(height: int, step: int = STRIP_PX) -> Iterator[tuple[int, int]]:
    """(top, bottom) of consecutive strips of an image."""
    return ((top, min(height, top + step)) for top in range(0, height, step))


def strips_of(image: Array) -> Iterator[Array]:
    """A whole image (C, H, W) in strips; views."""
    return (image[:, top:bottom] for top, bottom in spans(image.shape[-2]))


def made_ahead(strips: Iterator[Array]) -> Iterator[Array]:
    """The same strips, of which a thread makes the next while one is worked on.

    In the caller's context, by which a page knows whose progress it is told.
    """

    def following() -> Array | None:
        return next(strips, None)

    with ThreadPoolExecutor(1, "strip") as pool:
        coming = pool.submit(copy_context().run, following)
        while (strip := coming.result()) is not None:
            coming = pool.submit(copy_context().run, following)
            yield strip
