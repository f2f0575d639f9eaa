"""Compiled graphs imported from mapped files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 1 << 20
WEIGHTS_MB = 256
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from openvino import Model, opset13 as ops
from passionsr_cli.graphs.core import core
from passionsr_cli.graphs import mapped_graphs

path, wanted = Path(sys.argv[1]), sys.argv[2]
side, settings = 2048, {"INFERENCE_PRECISION_HINT": "f32"}
x = np.random.default_rng(0).standard_normal((1, side), np.float32)
if wanted == "write":
    node = given = ops.parameter([1, side], np.float32)
    for number in range(int(sys.argv[3])):
        weight = np.random.default_rng(number).standard_normal((side, side), np.float32)
        node = ops.matmul(node, ops.constant(weight / side**0.5), False, True)
    compiled = core().compile_model(Model([node], [given]), "CPU", settings)
    path.write_bytes(compiled.export_model().getvalue())
    np.save(path.with_suffix(".npy"), compiled([x])[0])
else:
    compiled, blob = mapped_graphs.import_mapped(path, settings)
    assert np.array_equal(compiled([x])[0], np.load(path.with_suffix(".npy")))
    print(Path("/proc/self/status").read_text())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's account of memory")
def test_a_file_does_not_lie_in_memory_beside_the_weights_it_became(tmp_path: Path) -> None:
    def run(name: str, wanted: str, layers: int) -> str:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / name), wanted, str(layers)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    peaks = []
    # Weights of 16 MB each; the first tells what a process takes without them.
    for layers in (1, WEIGHTS_MB // 16):
        run(f"{layers}.blob", "write", layers)
        found = re.search(r"VmHWM:\s+(\d+) kB", run(f"{layers}.blob", "read", layers))
        assert found
        peaks.append(int(found[1]) * 1024)
    # Once, and not twice.
    assert peaks[1] - peaks[0] < 1.5 * WEIGHTS_MB * MEGABYTES
