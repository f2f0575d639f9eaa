"""Compiled graphs kept as files, imported without holding all of a file in memory."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from passionsr_cli.inference.core import DEVICE, core

# In which time a disk delivers some tens of megabytes.
GIVE_BACK_EVERY_SECONDS = 0.02


def import_mapped(path: Path, settings: dict[str, str]) -> tuple[Any, Any]:
    """Import a compiled graph from its mapped file: OpenVINO's model, and the tensor that must live
    as long, as constants are read from it.

    Kernels make copies of the weights in a layout of their own, beside which the file's pages need
    not stay in memory.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    blob = openvino.Tensor(np.frombuffer(mapped, np.uint8), shared_memory=True)
    with _pages_given_back(mapped):
        return core().import_model(blob, DEVICE, settings), blob


@contextmanager
def _pages_given_back(mapped: mmap.mmap) -> Iterator[None]:
    """Give back the pages of a mapped file soon after they were read, not when all of them were:
    the peak would be twice the weights."""
    if not hasattr(mapped, "madvise"):
        yield
        return
    over = threading.Event()

    def give_back() -> None:
        while not over.wait(GIVE_BACK_EVERY_SECONDS):
            mapped.madvise(mmap.MADV_DONTNEED)

    giving = threading.Thread(target=give_back, name="pages", daemon=True)
    giving.start()
    try:
        yield
    finally:
        over.set()
        giving.join()
        mapped.madvise(mmap.MADV_DONTNEED)
