"""Strips of an image put aside until all of it has been seen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

HELD_BYTES = 1 << 27


class PutAside:
    """Strips (C, h, W) of float32 that wait in memory, or in an unnamed file if they are many."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 (closed by replay)
        self._shapes: list[torch.Size] = []

    def passing(self, strips: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same strips, each kept as it passes."""
        for strip in strips:
            self._shapes.append(strip.shape)
            self._file.write(strip.contiguous().numpy().tobytes())
            yield strip

    def replay(self) -> Iterator[Tensor]:
        """All of them again, once."""
        self._file.seek(0)
        with self._file:
            for shape in self._shapes:
                values = bytearray(self._file.read(4 * shape.numel()))
                yield torch.frombuffer(values, dtype=torch.float32).view(shape)
