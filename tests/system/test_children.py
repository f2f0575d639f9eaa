"""Functions in processes of their own: what they report and return, and how they end."""

from __future__ import annotations

import json
import os
import sys
from io import StringIO
from pathlib import Path

import pytest
from reporting import Heard

from passionsr_cli.errors import DeviceError, PassionSRError
from passionsr_cli.progress import Reporter
from passionsr_cli.system import children
from passionsr_cli.system.child import Teller, perform
from passionsr_cli.system.children import run_child


def _program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(children, "COMMAND", (sys.executable, "-c", text))


def test_a_function_gets_its_arguments_and_environment() -> None:
    environment = {"PASSIONSR_CACHE": "elsewhere"}
    assert run_child("os:getenv", {"key": "PASSIONSR_CACHE"}, environment=environment) == (
        "elsewhere"
    )
    assert os.environ.get("PASSIONSR_CACHE") != "elsewhere"


def test_what_it_reports_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "working.py").write_text(
        "def work(name, reporter):\n"
        "    print('a library prints')\n"
        "    reporter.started(name, 2)\n"
        "    reporter.step(name, 1, {'loss': 0.5})\n"
        "    reporter.note('half')\n"
        "    reporter.done(name)\n"
        "    return [name]\n"
    )
    heard = Heard()
    found = run_child("working:work", {"name": "x"}, heard, {"PYTHONPATH": str(tmp_path)})
    assert found == ["x"]
    assert (heard.steps, heard.texts, heard.results) == ([("x", 1, {"loss": 0.5})], ["half"], ["x"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed .SIGKILL., most likely for lack of memory"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("import sys; sys.exit('no luck')", "ended with exit code 1: no luck"),
        ("print('hello')", "ended with exit code 0: it said nothing"),
        ("""print('{"step": ["x", 1')""", "ended with exit code 0: it said nothing"),
    ],
)
def test_a_process_without_an_answer_is_explained(
    monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    _program(monkeypatch, program)
    with pytest.raises(DeviceError, match=message):
        run_child("os:getpid", {})


def test_what_a_function_says_is_the_error(tmp_path: Path) -> None:
    function = "passionsr_cli.models.catalogue:find"
    with pytest.raises(PassionSRError, match=r"^unknown model 'nope'"):
        run_child(function, {"name": "nope"})


def fail(reporter: Reporter) -> None:
    raise PassionSRError("nowhere: no such folder")


def test_an_unexpected_error_is_one_line() -> None:
    told = StringIO()
    request = {"function": f"{__name__}:fail", "arguments": {}, "reports": True}
    sys.modules[__name__].fail = fail  # type: ignore[attr-defined]
    perform(request, Teller(told))
    perform({**request, "reports": False}, Teller(told))
    known, unknown = (json.loads(line)["error"][0] for line in told.getvalue().splitlines())
    assert known == "nowhere: no such folder"
    assert unknown.startswith("unexpected TypeError: ")
