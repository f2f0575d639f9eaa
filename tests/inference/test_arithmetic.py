from __future__ import annotations

import platform
from pathlib import Path

import pytest

from passionsr_cli.inference.arithmetic import products_saturate

CPU = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPU.exists(), reason="needs Linux's list of instructions"
)
def test_products_saturate_where_no_instruction_sums_them_in_32_bits() -> None:
    instructions = CPU.read_text(encoding="utf-8").split()
    sums_exactly = {"avx512_vnni", "avx_vnni", "amx_int8"} & set(instructions)
    assert products_saturate() == (not sums_exactly)
