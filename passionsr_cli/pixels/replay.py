"""Strips of an image put aside until all of it has been seen."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from passionsr_cli.pixels.arrays import Array
from passionsr_cli.system.files import temporary_space

HELD_BYTES = 1 << 27


class PutAside:
    """Strips (C, h, W) of float32 that wait in memory, or in an unnamed file if they are many."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 (closed by replay)
        self._shapes: list[tuple[int, ...]] = []

    def passing(self, strips: Iterable[Array]) -> Iterator[Array]:
        """The same strips, each kept as it passes."""
        for strip in strips:
            self._shapes.append(strip.shape)
            with temporary_space():
                self._file.write(strip.tobytes())
            yield strip

    def replay(self) -> Iterator[Array]:
        """All of them again, once."""
        self._file.seek(0)
        with self._file:
            for shape in self._shapes:
                values = bytearray(self._file.read(4 * math.prod(shape)))
                yield np.frombuffer(values, np.float32).reshape(shape)
