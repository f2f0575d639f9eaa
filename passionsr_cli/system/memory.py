"""Memory: what is left on this machine, and what this process has used."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
# Arrays from so many bytes on are mapped on their own, glibc's option for it, and what glibc comes
# to by itself, once some were freed.
LARGE_BYTES, M_MMAP_THRESHOLD, KEPT_BYTES = 1 << 20, -3, 1 << 25


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out: torch on a CPU and OpenVINO have no class of
    their own for it."""
    text = str(error).lower()
    # A GPU says "an illegal memory access was encountered" of a fault that no smaller tile mends.
    said = ("memory" in text and "memory access" not in text) or "alloc" in text
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)


def process_peak_bytes() -> int:
    """The largest resident size this process has had."""
    if sys.platform == "linux":
        # getrusage counts what the process that started this one used when it did so.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


@contextmanager
def returned_when_freed() -> Iterator[None]:
    """Have glibc return what is freed to the system: large arrays at once, all else at the end.

    It would keep them for others that fit, each thread its own: beside the weights of Stable
    Diffusion's size more than a gigabyte.
    """
    _glibc("mallopt", M_MMAP_THRESHOLD, LARGE_BYTES)
    try:
        yield
    finally:
        _glibc("mallopt", M_MMAP_THRESHOLD, KEPT_BYTES)
        # References in circles, as modules have.
        gc.collect()
        _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    """Call it where the C library has it."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            getattr(ctypes.CDLL(None), function)(*arguments)


def peak_bytes(device: str) -> int:
    """The most memory in use at any time: torch's on a GPU, else the process's."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    return process_peak_bytes()


def free_bytes(device: str) -> int:
    """Memory that this process can still get: a GPU's, else the machine's or its container's."""
    import psutil

    if device.startswith("cuda"):
        import torch

        # Another library than torch may be the one that uses the GPU.
        if torch.cuda.is_available():
            return int(torch.cuda.mem_get_info(torch.device(device))[0])
    available = int(psutil.virtual_memory().available)
    return min(available, _left_in_container())


def _left_in_container() -> int:
    """Bytes that a container's control group still allows; without one, more than there is."""
    try:
        limit = int((CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        counts: dict[str, str] = dict(
            line.split() for line in (CGROUP / "memory.stat").read_text("ascii").splitlines()
        )
    except (OSError, ValueError):
        return 1 << 62
    # Copies of files, and what else can be reclaimed, are given up before anything fails.
    reclaimable = ("inactive_file", "active_file", "slab_reclaimable")
    return limit - used + sum(int(counts.get(kind, 0)) for kind in reclaimable)
