from __future__ import annotations

import sys
from pathlib import Path

import pytest

from passionsr_cli.benchmark import processes
from passionsr_cli.errors import DeviceError, PassionSRError


def _program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-c", text))


def test_a_task_gets_its_arguments_and_a_cache_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = (
        "import json, os, sys; request = json.load(sys.stdin); "
        "print(json.dumps({'result': [request, os.environ['PASSIONSR_CACHE']]}))"
    )
    _program(monkeypatch, program)
    request, cache = processes.run_task("tiles", tmp_path, size=64)
    assert request == {"task": "tiles", "arguments": {"size": 64}}
    assert cache == str(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed .SIGKILL., most likely for lack of memory"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("import sys; sys.exit('no luck')", "ended with exit code 1: no luck"),
        ("print('hello')", "ended with exit code 0: it said nothing"),
    ],
)
def test_a_process_without_an_answer_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, message: str
) -> None:
    _program(monkeypatch, program)
    with pytest.raises(DeviceError, match=message):
        processes.run_task("tiles", tmp_path)


def test_what_a_task_says_is_the_error(tmp_path: Path) -> None:
    arguments = {"model": "nope", "folder": str(tmp_path / "made")}
    with pytest.raises(PassionSRError, match="unknown model 'nope'"):
        processes.run_task("random model", tmp_path, **arguments)
    assert not (tmp_path / "made").exists()
