"""The script for GPUs: nothing that goes wrong in one of its processes hides another."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest

from . import gpu, gpu_row
from .gpu import Job, Session


def _job(name: str, program: str, seconds: float = 60) -> Job:
    return Job(name, (sys.executable, "-c", program), seconds)


def test_jobs_are_apart_and_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(tmp_path / "new", 60, dict(os.environ))
    started_another = "import subprocess; subprocess.run(['sleep', '60'])"
    jobs = [
        _job("a/well", "print('fine')"),
        _job("crashes", "import os; print('said'); os.abort()"),
        _job("hangs", started_another, 0.5),
    ]
    session.run(jobs, at_once=2)
    session.end = 0
    session.run([_job("late", "")])
    verdicts = {outcome.name: outcome.verdict for outcome in session.outcomes}
    assert verdicts == {
        "a/well": "passed",
        "crashes": "FAILED",
        "hangs": "GAVE UP",
        "late": "NOT RUN",
    }
    assert not session.summary()
    assert "1 of 4 passed" in capsys.readouterr().out


def test_each_function_is_a_job_and_dry_its_first_case() -> None:
    tests = ["tests/a.py::one[1]", "tests/a.py::one[2]", "tests/a.py::two"]
    names = [
        [job.name for job in gpu.test_jobs(tests, apart, dry)]
        for apart, dry in ((False, False), (True, False), (False, True))
    ]
    assert names == [
        ["a.py::one", "a.py::two"],
        ["a.py::one[1]", "a.py::one[2]", "a.py::two"],
        ["a.py::one[1]", "a.py::two"],
    ]


def test_rows_that_failed_leave_the_others(tmp_path: Path) -> None:
    rows = {"mini.w8a8": [("w8a8", 2.0)], "other.w8a8": [("w8a8", 9.0)]}
    rows["mini.bf16-compiled"] = [("bf16-compiled", 3.0), ("bf16-compiled-graph", 1.0)]
    for name, measured in rows.items():
        values = [{"form": form, "seconds": seconds} for form, seconds in measured]
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    (tmp_path / "mini.w4a4.ready").touch()
    found = gpu.rows_of(tmp_path, "mini")
    assert [row["form"] for row in found] == ["bf16-compiled-graph", "w8a8", "bf16-compiled"]
    assert gpu.ratio(found, "bf16-compiled") == 1.5
    assert gpu.ratio(found, "bf16-compiled-graph") == 0.5
    assert gpu.ratio(found[1:], "bf16-compiled-graph") == 0


def test_a_form_waits_for_those_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_row, "PATIENCE_SECONDS", 60)
    slow = threading.Timer(0.3, (tmp_path / "b.ready").touch)
    (tmp_path / "a.ready").touch()
    slow.start()
    gpu_row.wait_for_others(tmp_path, 2)
    assert (tmp_path / "b.ready").exists()
    # What crashed is not waited for without end.
    monkeypatch.setattr(gpu_row, "PATIENCE_SECONDS", 0.2)
    gpu_row.wait_for_others(tmp_path, 3)


def test_tests_are_found_by_their_names(tmp_path: Path) -> None:
    session = Session(tmp_path, 300, dict(os.environ))
    found = gpu.collected(session, "well", ["tests/quality/test_gpu.py"])
    assert f"tests/quality/test_gpu.py::{test_jobs_are_apart_and_bounded.__name__}" in found
    # What finds none must not pass for well.
    assert not gpu.collected(session, "nothing", ["tests/quality/README.md"])
    assert [outcome.verdict for outcome in session.outcomes] == ["passed", "FAILED"]


def test_marked_tests_are_looked_for_where_they_are() -> None:
    """What a file without one imports need not be there."""
    *files, option, mark = gpu.marked()
    assert (option, mark) == ("-m", "gpu")
    assert "tests/inference/test_on_gpu.py" in files
    assert "tests/inference/test_open.py" not in files
    assert all((gpu.ROOT / file).exists() for file in files)
