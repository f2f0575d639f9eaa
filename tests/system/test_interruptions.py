from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")

_PROGRAM = """
import os, signal, sys, time
from passionsr_cli.system import interruptions
from passionsr_cli.system.files import drop_unfinished, unfinished_beside

def end_at_once():
    drop_unfinished()
    os._exit(interruptions.exit_code())

interruptions.interrupt_at_end(end_at_once)
with unfinished_beside(__import__("pathlib").Path(sys.argv[1])) as temporary:
    temporary.write_text("a half")
    try:
        print("ready", flush=True)
        time.sleep(50)
    except KeyboardInterrupt:
        if sys.argv[2] == "twice":
            signal.raise_signal(signal.SIGTERM)
        sys.exit(interruptions.exit_code())
"""


def _as_in_a_terminal(on_ctrl_c: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, on_ctrl_c)
    # Also where the tests run under `nohup`.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("before", "number", "times", "code"),
    [
        (signal.default_int_handler, signal.SIGTERM, "once", 143),
        # As of what a shell starts in the background.
        (signal.SIG_IGN, signal.SIGTERM, "twice", 143),
        (signal.default_int_handler, signal.SIGHUP, "once", 129),
        (signal.default_int_handler, signal.SIGINT, "once", 130),
    ],
)
def test_signals_that_end_a_process_are_taken_for_ctrl_c(
    tmp_path: Path, before: signal.Handlers, number: signal.Signals, times: str, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "result"), times],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: _as_in_a_terminal(before),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(20) == code
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_stays_so() -> None:
    program = (
        "import signal; from passionsr_cli.system.interruptions import interrupt_at_end\n"
        "interrupt_at_end(print); signal.raise_signal(signal.SIGHUP)"
    )
    command = [sys.executable, "-c", program]
    ignoring = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    assert subprocess.run(command, preexec_fn=ignoring, check=False).returncode == 0


def test_workers_that_die_of_the_same_signal_raise_nothing() -> None:
    program = """
import signal
from passionsr_cli.system.interruptions import interrupt_at_end

def died(number, frame):
    raise RuntimeError("a worker died")

signal.signal(signal.SIGCHLD, died)
interrupt_at_end(print)
try:
    signal.raise_signal(signal.SIGTERM)
except KeyboardInterrupt:
    signal.raise_signal(signal.SIGCHLD)
    print("saved")
"""
    assert subprocess.check_output([sys.executable, "-c", program]) == b"saved\n"
