"""All that only an NVIDIA GPU can tell, with one command, in a time that is given.

    python tests/quality/gpu.py [--minutes 9] [--folder gpu] [--dry] [kernels] [tables] [tests]

Everything is a process of its own with a time of its own: what crashes the GPU's context, hangs or
takes too long is one line of the summary at the end, and the rest goes on. In this order:

- kernels: each test function of the kernels, compiled instead of interpreted.
- tables: for Stable Diffusion 2.1's architecture (random weights, 950 M parameters) and for `mini`
  seconds, memory and the share of integers of compiled bf16, of W8A8 on Triton's kernels, of bf16
  and of W4A4 (`gpu_row.py`); the bar is W8A8 1.3 times as fast as compiled bf16 at full size.
- tests: each test that is marked `gpu`.

What matters most comes first: of the last, some may be left for another call (`tests`).

Nothing is downloaded. What was said lies in FOLDER, a file for each line of the summary. `--dry`
tries the script itself without a GPU: the first case of each function, in Triton's interpreter, and
a table of tiny images on the CPU, of `mini`. Exit status 0: everything passed, and the
bar is met.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

WANTED_RATIO = 1.3
FORMS, DRY_FORMS = ("bf16-compiled", "w8a8", "bf16", "w4a4"), ("bf16", "w8a8")
FULL_SIZE, SMALL = "passionsr-fp", "mini"
ROOT = Path(__file__).parents[2]
KERNELS = ("tests/triton_kernels", "--ignore", "tests/triton_kernels/test_compiled.py")
MARK = "pytest.mark.gpu"
# Seconds of one process at most. A form at full size compiles for minutes, beside others.
TEST_SECONDS, ROW_SECONDS = 150.0, 300.0
# Compiling for a GPU keeps a core busy.
AT_ONCE = max(2, min(8, (os.cpu_count() or 4) // 2))
PARTS = ("kernels", "tables", "tests")


@dataclass(frozen=True)
class Job:
    """A command, and the seconds after which it is given up."""

    name: str
    command: Sequence[str]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of a job: passed, FAILED, GAVE UP or NOT RUN; `file` has what it said."""

    name: str
    verdict: str
    seconds: float
    file: Path


class Session:
    """Runs jobs until a time is over; each outcome is printed when it is there."""

    def __init__(self, folder: Path, seconds: float, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.end = time.monotonic() + seconds
        self.outcomes: list[Outcome] = []
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, jobs: Iterable[Job], at_once: int = 1) -> None:
        """Run jobs, so many at once."""
        with ThreadPoolExecutor(at_once) as pool:
            for outcome in pool.map(self._outcome, jobs):
                self.outcomes.append(outcome)
                print(_line(outcome), flush=True)

    def _outcome(self, job: Job) -> Outcome:
        started = time.monotonic()
        file = self.folder / f"{job.name.replace('/', '.').replace(':', '.')}.txt"
        seconds = min(job.seconds, self.end - started)
        if seconds <= 0:
            return Outcome(job.name, "NOT RUN", 0.0, file)
        with file.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=ROOT,
                start_new_session=True,
            )
            try:
                verdict = "FAILED" if process.wait(seconds) else "passed"
            except subprocess.TimeoutExpired:
                verdict = "GAVE UP"
            finally:
                # With whatever it has started.
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return Outcome(job.name, verdict, time.monotonic() - started, file)

    def summary(self) -> bool:
        """Print what did not pass, with the last it said; True if all passed."""
        bad = [outcome for outcome in self.outcomes if outcome.verdict != "passed"]
        print(f"\n{len(self.outcomes) - len(bad)} of {len(self.outcomes)} passed", flush=True)
        for outcome in bad:
            said = ""
            if outcome.file.exists():
                said = outcome.file.read_text(encoding="utf-8", errors="replace")
            print(
                _line(outcome), *(f"    {text[:160]}" for text in said.splitlines()[-4:]), sep="\n"
            )
        return not bad


def _line(outcome: Outcome) -> str:
    return f"{outcome.verdict:8} {outcome.seconds:6.1f} s  {outcome.name}"


def collected(session: Session, name: str, where: Sequence[str]) -> list[str]:
    """Names of tests, asked of pytest."""
    # With the project's own -q pytest would print files alone.
    options = ("-o", "addopts=--import-mode=importlib", "--collect-only", "-q")
    command = (sys.executable, "-m", "pytest", *options, *where)
    session.run([Job(f"collecting {name}", command, TEST_SECONDS)])
    last = session.outcomes[-1]
    said = last.file.read_text(encoding="utf-8") if last.file.exists() else ""
    found = [line for line in said.splitlines() if line.startswith("tests/") and "::" in line]
    if not found:
        session.outcomes[-1] = replace(last, verdict="FAILED")
    return found


def marked() -> list[str]:
    """Where pytest finds the marked tests: in files of theirs alone, since others may need packages
    that a machine lent for its GPU lacks."""
    files = sorted((ROOT / "tests").glob("*/test_*.py"))
    has = [file for file in files if MARK in file.read_text(encoding="utf-8")]
    return [*(file.relative_to(ROOT).as_posix() for file in has), "-m", "gpu"]


def test_jobs(tests: Sequence[str], apart: bool, dry: bool) -> list[Job]:
    """A job for each test, or for each function with all its cases; dry the first case alone."""
    first = {test.partition("[")[0]: test for test in reversed(tests)}
    asked = list(tests) if apart else list(reversed(first))
    if dry:
        asked = list(reversed(first.values()))
    options = ("-q", "--maxfail=3", "--tb=short", "-rs")
    return [
        Job(
            test.removeprefix("tests/"),
            (sys.executable, "-m", "pytest", *options, test),
            TEST_SECONDS,
        )
        for test in asked
    ]


def table_jobs(folder: Path, dry: bool) -> list[Job]:
    """Jobs of the tables' rows, which get ready side by side and are timed in turns."""
    rows = [(model, form) for model in (FULL_SIZE, SMALL) for form in FORMS]
    if dry:
        rows = [(SMALL, form) for form in DRY_FORMS]
    program = (sys.executable, str(ROOT / "tests/quality/gpu_row.py"))
    about = (str(folder), str(len(rows)), *(["--dry"] if dry else []))
    return [
        Job(f"{model} {form}", (*program, model, form, *about), ROW_SECONDS) for model, form in rows
    ]


def rows_of(folder: Path, model: str) -> list[dict[str, Any]]:
    """What the processes of a table have measured, the fastest first."""
    rows: list[dict[str, Any]] = []
    for file in folder.glob(f"{model}.*.json"):
        rows += json.loads(file.read_text(encoding="utf-8"))
    return sorted(rows, key=lambda row: float(row["seconds"]))


def table(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Lines of a table."""
    return [
        f"{row['form']:20} {row['seconds'] * 1000:8.2f} ms  "
        f"{row['seconds_on_the_gpu'] * 1000:8.2f} ms on the GPU  "
        f"{row['peak_memory_bytes'] / 1e9:6.2f} GB  {row['integer_share']:6.1%} on integers"
        for row in rows
    ]


def ratio(rows: Iterable[dict[str, Any]], rival: str) -> float:
    """How many times as fast W8A8 is as a form of bf16; 0 where one of them failed."""
    seconds = {row["form"]: row["seconds"] for row in rows}
    integers, floating = seconds.get("w8a8"), seconds.get(rival)
    return floating / integers if integers and floating else 0.0


def main(parts: Sequence[str], folder: Path, minutes: float, dry: bool) -> int:
    """Run the parts; 0 if everything passes and the bar is met where it is measured."""
    import torch

    if not dry:
        if not torch.cuda.is_available():
            print("this machine has no NVIDIA GPU; --dry tries the script", file=sys.stderr)
            return 1
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONPATH": path}
    interpreted = {"TRITON_INTERPRET": "1" if dry else "0"}
    session = Session(folder, 60 * minutes, {**os.environ, **offline, **interpreted})
    last: list[str] = []
    met = True
    if "kernels" in parts:
        tests = collected(session, "kernels", KERNELS)
        session.run(test_jobs(tests, apart=False, dry=dry), AT_ONCE)
    if "tables" in parts:
        rows_folder = folder / "rows"
        # What an earlier call left would count as ready.
        shutil.rmtree(rows_folder, ignore_errors=True)
        rows_folder.mkdir()
        jobs = table_jobs(rows_folder, dry)
        session.run(jobs, len(jobs))
        for name in (FULL_SIZE, SMALL):
            rows = rows_of(rows_folder, name)
            last += ["", f"{name}, 512×512", *table(rows)]
            for rival in ("bf16-compiled", "bf16-compiled-graph"):
                found = ratio(rows, rival)
                last.append(f"W8A8 is {found:.2f} times as fast as {rival}")
                if name == FULL_SIZE and not dry:
                    met = met and found >= WANTED_RATIO
    if last:
        last.append(f"(bar at full size: {WANTED_RATIO})")
    if "tests" in parts:
        tests = collected(session, "tests", marked())
        session.run(test_jobs(tests, apart=True, dry=dry), AT_ONCE)
    passed = session.summary()
    print(*last, sep="\n", flush=True)
    return 0 if passed and met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="All that only an NVIDIA GPU can tell.")
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument("--minutes", type=float, default=9, help="when it ends, done or not")
    parser.add_argument("--folder", type=Path, default=Path("gpu"), help="where what is said goes")
    parser.add_argument("--dry", action="store_true", help="try the script, without a GPU")
    asked = parser.parse_args()
    if not set(asked.parts) <= set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    sys.exit(main(asked.parts or PARTS, asked.folder, asked.minutes, asked.dry))
