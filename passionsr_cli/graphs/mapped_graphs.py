"""Compiled graphs kept as files, imported without holding all of a file in memory."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from passionsr_cli.graphs.core import DEVICE, core

# In which time a disk delivers some tens of megabytes.
GIVE_BACK_EVERY_SECONDS = 0.02


@dataclass(frozen=True)
class MappedFile:
    """A file as an array of its bytes, which come from the disk when they are read."""

    pages: mmap.mmap
    tensor: openvino.Tensor

    def give_back(self) -> None:
        """Keep none of it in memory until it is read again."""
        if hasattr(self.pages, "madvise"):
            self.pages.madvise(mmap.MADV_DONTNEED)


def import_mapped(path: Path, settings: dict[str, str]) -> tuple[Any, MappedFile]:
    """Import a compiled graph from its mapped file: OpenVINO's model, and the file, which must live
    as long, as constants are read from it.

    Kernels make copies of the weights in a layout of their own, beside which the file's pages need
    not stay in memory.
    """
    with path.open("rb") as opened:
        pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    tensor = openvino.Tensor(np.frombuffer(pages, np.uint8), shared_memory=True)
    file = MappedFile(pages, tensor)
    with _pages_given_back(file):
        return core().import_model(tensor, DEVICE, settings), file


@contextmanager
def _pages_given_back(file: MappedFile) -> Iterator[None]:
    """Give back the pages of a mapped file soon after they were read, not when all of them were:
    the peak would be twice the weights."""
    over = threading.Event()

    def give_back() -> None:
        while not over.wait(GIVE_BACK_EVERY_SECONDS):
            file.give_back()

    giving = threading.Thread(target=give_back, name="pages", daemon=True)
    giving.start()
    try:
        yield
    finally:
        over.set()
        giving.join()
        file.give_back()
