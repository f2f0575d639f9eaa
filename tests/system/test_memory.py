from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from passionsr_cli.system import memory
from passionsr_cli.system.memory import is_out_of_memory


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "memory.max": "3000000\n",
        "memory.current": "2500000\n",
        "memory.stat": "anon 1\ninactive_file 400000\nactive_file 200000\n"
        "slab_reclaimable 100000\n",
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


# In a process of its own: in one that has freed much already, arrays take its place.
_FREEING = """
import pathlib
import numpy as np
from passionsr_cli.system.memory import returned_when_freed

def held_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

# From now on glibc keeps what is smaller than this.
np.ones(31 << 20, np.uint8)
with returned_when_freed():
    arrays = [np.ones(2 << 20, np.uint8) for _ in range(32)]
    full = held_bytes()
    # The last one stays, above what glibc could have cut off.
    del arrays[:-1]
    print(full - held_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc keeps what is freed")
def test_what_is_freed_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", _FREEING], capture_output=True, text=True)
    assert int(done.stdout) > 48 << 20
