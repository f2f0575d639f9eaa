"""CPU instructions, as far as the system tells."""

from __future__ import annotations

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
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return tuple(name for flag, name in INSTRUCTIONS.items() if flag in flags)


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
