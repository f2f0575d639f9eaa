from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from passionsr_cli.system import memory
from passionsr_cli.system.memory import is_out_of_memory, returned_when_freed


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "memory.max": "3000000\n",
        "memory.current": "2500000\n",
        "memory.stat": "anon 1\ninactive_file 700000\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free_bytes("cpu") == 1_200_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes("cpu") > 10**7


def test_the_peak_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.max_memory_allocated", {"cuda:1": 123}.__getitem__)
    monkeypatch.setattr(memory, "process_peak_bytes", lambda: 456)
    assert memory.peak_bytes("cuda:1") == 123
    assert memory.peak_bytes("cpu") == 456


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("sizes do not match"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (OSError("cannot allocate memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) == is_one


def _held_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc keeps what is freed")
def test_what_is_freed_goes_back_to_the_system() -> None:
    megabyte = 1 << 20
    with returned_when_freed():
        arrays = [np.ones(2 * megabyte, np.uint8) for _ in range(32)]
        full = _held_bytes()
        # The last one stays, above what glibc could have cut off.
        del arrays[:-1]
        assert full - _held_bytes() > 48 * megabyte
    assert arrays[0].all()
