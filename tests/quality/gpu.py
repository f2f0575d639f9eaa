"""All that only an NVIDIA GPU can tell, with one command: its tables, then its tests.

    python tests/quality/gpu.py [FOLDER]

Meant to take about ten minutes on an H100. For `mini` and for Stable Diffusion 2.1's architecture
(random weights, 950 M parameters) it says seconds, memory and the share of integers of bf16, of
compiled bf16, and of W8A8 and W4A4 on Triton's kernels, each table one run; and whether W8A8 is 1.3
times as fast as compiled bf16 at full size. Then come the kernels' own tests, compiled instead of
interpreted, and all that are marked `gpu`. JSON of the tables lies in FOLDER (default: gpu).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

WANTED_RATIO = 1.3
VARIANTS = "torch:bf16,torch:bf16-compiled,triton:w8a8,triton:w4a4"
# The last one's ratio is the bar.
TABLES = {
    "mini": ("--model", "mini"),
    "full-size": ("--model", "passionsr-fp", "--random-weights"),
}
ROOT = Path(__file__).parents[2]
# All of the kernels' own tests, which run on whatever they are given, and those marked.
TESTS = (
    ("tests/triton_kernels", "--ignore", "tests/triton_kernels/test_compiled.py"),
    ("tests", "-m", "gpu"),
)


def main(folder: Path) -> int:
    """Run all of it; 0 if every test passes and the bar is met."""
    if not torch.cuda.is_available():
        print("this machine has no NVIDIA GPU", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    ratio = 0.0
    for name, options in TABLES.items():
        rows = _bench(options, folder / f"{name}.json", environment)
        print(f"\n{name}, 512×512", *map(_line, rows), sep="\n", flush=True)
        ratio = _ratio(rows)
        print(f"W8A8 is {ratio:.2f} times as fast as compiled bf16", flush=True)
    print(f"(bar at full size: {WANTED_RATIO})", flush=True)
    codes = [
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *tests], cwd=ROOT, env=environment
        ).returncode
        for tests in TESTS
    ]
    return 0 if not any(codes) and ratio >= WANTED_RATIO else 1


def _bench(
    options: tuple[str, ...], file: Path, environment: dict[str, str]
) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "passionsr_cli", "bench", *options, "--variants", VARIANTS]
    command += ["--device", "cuda", "--precision", "bf16", "--json"]
    with file.open("w", encoding="utf-8") as output:
        subprocess.run(command, stdout=output, env=environment, cwd=ROOT)
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    except ValueError:
        # What it said of the reason stands above.
        return []
    return rows


def _line(row: dict[str, Any]) -> str:
    name = f"{row['backend']} {row['variant']}"
    if row["seconds"] is None:
        return f"{name:24} failed: {row['error']}"
    return (
        f"{name:24} {row['seconds'] * 1000:8.2f} ms  {row['peak_memory_bytes'] / 1e9:6.2f} GB  "
        f"{row['integer_flop_share']:6.1%} on integers  {row['tops']:6.1f} TOPS"
    )


def _ratio(rows: list[dict[str, Any]]) -> float:
    """How many times as fast W8A8 is as compiled bf16; 0 where one of them failed."""
    seconds = {row["variant"]: row["seconds"] for row in rows}
    integers, floating = seconds.get("w8a8"), seconds.get("bf16-compiled")
    return floating / integers if integers and floating else 0.0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "gpu")))
