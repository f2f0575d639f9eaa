"""What a shell completes: options' values, as it asks for them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from passionsr_cli.terminal.completion import VALUES, values_of

# As the installed command's script does it, and whether torch came along.
_PROGRAM = """
import sys
sys.argv = ["passionsr"]
from passionsr_cli.cli.app import main
try:
    main()
finally:
    assert not {"torch", "diffusers"} & set(sys.modules)
"""


@pytest.mark.parametrize(
    ("command", "parameter", "metavar", "some"),
    [
        ("upscale", "model", "NAME|DIR", {"mini", "osediff"}),
        ("upscale", "checkpoint", "NAME|DIR|none", {"mini-w8a8", "none"}),
        ("upscale", "inputs", "INPUT...", {"sample:coffee"}),
        ("upscale", "device", "auto|cpu|cuda[:N]|mps", {"auto", "cpu", "cuda", "mps"}),
        ("upscale", "name", "TEMPLATE", set()),
        ("upscale", "config", "FILE|PRESET", {"exact", "low-memory"}),
        ("calibrate", "config", "FILE|PRESET", {"quick", "symmetric"}),
        ("calibrate", "bits", "w6a6|PRESET", {"w8a8", "w4a8", "fp"}),
        ("calibrate", "method", "passionsr|qartsr|…", {"maxmin", "qartsr"}),
        ("evaluate", "metrics", "NAME,NAME", {"psnr", "lpips"}),
        ("evaluate", "dataset", "NAME|DIR|LR,HR", {"sample", "RealSR"}),
        ("evaluate", "baseline", "bicubic,lanczos,nncf", {"bicubic", "nncf"}),
        ("reproduce", "table", "TABLE", {"passionsr-table2"}),
        ("models pull", "model", "MODEL", {"osediff"}),
        ("checkpoints show", "name", "", {"mini-w8a8"}),
    ],
)
def test_values(command: str, parameter: str, metavar: str, some: set[str]) -> None:
    found = set(values_of(command, parameter, metavar)())
    assert found >= some
    assert bool(found) == bool(some)


def test_presets_are_those_of_the_command() -> None:
    assert set(VALUES["upscale config"]()).isdisjoint(VALUES["calibrate config"]())


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("passionsr calibrate --method qd", ["qdiffusion", "qdm"]),
        ("passionsr evaluate --metrics psnr,ss", ["psnr,ssim"]),
        ("passionsr upscale sample:co", ["sample:coffee"]),
        ("passionsr checkpoints sh", ["show"]),
        ("passionsr quantize --bits w8", ["w8a8"]),
        ("passionsr upscale photo.jpg -", None),
    ],
)
def test_a_shell_that_asks(typed: str, expected: list[str] | None) -> None:
    asking = {"COMP_WORDS": typed, "COMP_CWORD": str(len(shlex.split(typed)) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, **asking, "_PASSIONSR_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if expected is not None:
        assert done.stdout.split() == expected
    else:
        assert {"--compare", "--model"} <= set(done.stdout.split())
