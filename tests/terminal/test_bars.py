"""What is seen on a terminal: bars that go, results that stay, whole names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from screens import run_on_terminal, screen

from passionsr_cli.registry import EMBEDDED_CHECKPOINT_FOLDER
from passionsr_cli.terminal import progress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other terminals")


def test_the_screen_of_a_test_is_a_terminal_s() -> None:
    assert screen("one\r\ntwo\r\x1b[2K\x1b[1A\x1b[2Kthree\r\nfour", 80) == ["three", "four"]
    assert screen("12345\r\n6", 3) == ["123", "45", "6"]


@pytest.mark.parametrize("columns", [80, 110])
def test_a_folder_s_bar_leaves_nothing_but_the_results(columns: int, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in "abc":
        Image.new("RGB", (40, 40), "teal").save(photographs / f"{name}.png")
    (photographs / "d.png").write_text("no image")
    code, written = run_on_terminal(["upscale", "photographs", "--tile", "64"], columns, tmp_path)
    seen = [line for line in screen(written, columns) if line]
    assert code == 1
    assert "━" in written
    assert "images/s" in written
    assert [line.split()[0] for line in seen[:3]] == [f"photographs/{n}_x4.png" for n in "abc"]
    assert seen[3].startswith(("3 upscaled, 1 failed, ", "error: photographs/d.png"))
    assert not [line for line in seen if "━" in line]
    assert len(seen) == 5


def test_long_names_are_folded_and_not_cut(tmp_path: Path) -> None:
    """On a terminal; in a pipe each row is one line."""
    name = "mini-w8a8-of-the-holiday-of-two-thousand-and-twenty-six"
    home = tmp_path / "home"
    shutil.copytree(EMBEDDED_CHECKPOINT_FOLDER, home / "checkpoints" / name)
    environment = {"PASSIONSR_HOME": str(home)}
    code, written = run_on_terminal(["checkpoints"], 80, tmp_path, **environment)
    seen = screen(written, 80)
    assert code == 0
    assert max(map(len, seen)) <= 80
    # Its pieces, one below the other.
    first = "".join(re.match(r"\S*", line)[0] for line in seen)  # type: ignore[index]
    assert name in first
    assert "…" not in written
    piped = subprocess.run(
        [sys.executable, "-m", "passionsr_cli", "checkpoints"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    (row,) = [line for line in piped.stdout.splitlines() if name in line]
    assert row.split()[:4] == [name, "mini", "w8a8", "passionsr"]


def test_without_a_terminal_long_work_writes_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([0.0, 1.0, 25.0, 30.0, 40.0, 100.0, 101.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with progress.StepBars() as bars:
        bars.started("fitting", 100)
        bars.step("fitting", 1, {"loss": 0.5})
        bars.step("fitting", 40, {"loss": 0.25})
        bars.step("fitting", 60, {"loss": 0.125})
        bars.step("fitting", 100, {"loss": 0.1})
        bars.started("short", 1)
        bars.step("short", 1)
    assert capsys.readouterr().err.splitlines() == [
        "fitting: 40/100, loss 0.25, 25 s",
        "fitting: 100/100, loss 0.1, 40 s",
    ]
