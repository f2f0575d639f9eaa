from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "diffusers", "pyiqa", "accelerate", "numpy", "PIL", "skimage", "pydantic")


def test_help_imports_nothing_heavy() -> None:
    """`passionsr --help` stays instant: measured by what it imports, not by a clock."""
    program = (
        "import sys; from passionsr_cli.cli.app import main; sys.argv = ['passionsr', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "upscale" in done.stdout
    assert "HEAVY []" in done.stdout
