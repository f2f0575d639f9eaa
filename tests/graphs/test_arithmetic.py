from __future__ import annotations

import platform
from pathlib import Path

import pytest

from passionsr_cli.graphs.arithmetic import kernels_saturate, products_saturate
from passionsr_cli.system import cpu

CPU = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPU.exists(), reason="needs Linux's list of instructions"
)
def test_products_saturate_where_no_instruction_sums_them_in_32_bits() -> None:
    instructions = CPU.read_text(encoding="utf-8").split()
    sums_exactly = {"avx512_vnni", "avx_vnni", "amx_int8"} & set(instructions)
    assert kernels_saturate() == (not sums_exactly)


def test_kernels_are_asked_where_instructions_do_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    products_saturate.cache_clear()
    assert products_saturate() == kernels_saturate()
    monkeypatch.setattr("passionsr_cli.graphs.arithmetic.kernels_saturate", lambda: True)
    for known, saturates in (((), True), (("avx_vnni",), True), (("avx512_vnni",), False)):
        products_saturate.cache_clear()
        monkeypatch.setattr(cpu, "instructions", lambda known=known: known)
        assert products_saturate() == saturates
    products_saturate.cache_clear()
