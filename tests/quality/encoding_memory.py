"""What formats take of memory while a result is written, in bytes a pixel; a process for each.

`python tests/quality/encoding_memory.py [WIDTHxHEIGHT]`
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from passionsr_cli.imaging.encoding import OUTPUT_FORMATS, Layout, write
from passionsr_cli.metadata.kinds import Metadata
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.strips import STRIP_PX
from passionsr_cli.system.memory import process_peak_bytes


def noisy_strips(width: int, height: int) -> Iterator[Array]:
    """A grey ramp with noise, as strips of a photograph."""
    generator, ramp = np.random.default_rng(0), np.linspace(0, 1, width, dtype=np.float32)
    for top in range(0, height, STRIP_PX):
        shape = (3, min(STRIP_PX, height - top), width)
        noise = 0.05 * generator.standard_normal(shape, np.float32)
        yield np.clip(ramp + noise, 0, 1, dtype=np.float32)


def measure(suffix: str, width: int, height: int) -> str:
    """A row of the table: the peak above that of a small file of the same format."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write(path, Layout((64, 64), 3, 8, Metadata()), noisy_strips(64, 64))
        before = process_peak_bytes()
        write(path, Layout((width, height), 3, 8, Metadata()), noisy_strips(width, height))
        grown = process_peak_bytes() - before
    return f"{suffix}: {grown / width / height:.1f} bytes a pixel"


if __name__ == "__main__":
    size = sys.argv[1] if len(sys.argv) > 1 else "6000x4000"
    if len(sys.argv) > 2:
        print(measure(sys.argv[2], *map(int, size.split("x"))))
    else:
        for each in OUTPUT_FORMATS:
            subprocess.run([sys.executable, __file__, size, each], check=True)
