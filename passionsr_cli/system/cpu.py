"""The CPU: its instructions, name and cores, as far as the system tells."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# By the flags that Linux has for them.
INSTRUCTIONS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_tile": "amx",
}


@cache
def instructions() -> tuple[str, ...]:
    """The names of `INSTRUCTIONS` that this CPU has; none where the system does not list them."""
    flags = set(_told("flags").split())
    return tuple(name for flag, name in INSTRUCTIONS.items() if flag in flags)


@cache
def name() -> str:
    """The name of this CPU; of its kind alone where the system does not list it."""
    return _told("model name") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Count of the cores, as the system counts them, that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _told(about: str) -> str:
    """A line of the first core's, empty where the system has none."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(about)), "")


def has_bf16() -> bool:
    """Tell whether the CPU multiplies bf16 in hardware (AMX or AVX512-BF16)."""
    if CPUINFO.exists():
        return not {"amx", "avx512_bf16"}.isdisjoint(instructions())
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_integer_products() -> bool:
    """Tell whether the CPU multiplies 8-bit integers in hardware (VNNI or AMX), if known."""
    if not CPUINFO.exists():
        return True
    return not {"amx", "avx512_vnni", "avx_vnni"}.isdisjoint(instructions())
