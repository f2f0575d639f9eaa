"""The script for GPUs: nothing that goes wrong in one of its processes hides another."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from . import gpu
from .gpu import Job, Outcome, Session


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
    texts = ["warning\n" + '{"rows": [{"variant": "w8a8", "seconds": 2.0}]}\n', "killed", None]
    texts.append('{"rows": [{"variant": "bf16-compiled", "seconds": 3.0}]}')
    outcomes = []
    for number, text in enumerate(texts):
        file = tmp_path / str(number)
        if text is not None:
            file.write_text(text)
        outcomes.append(Outcome("row", "passed", 1.0, file))
    rows = gpu.rows_of(outcomes)
    assert [row["variant"] for row in rows] == ["w8a8", "bf16-compiled"]
    assert gpu.ratio(rows) == 1.5
    assert gpu.ratio(rows[:1]) == 0


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
