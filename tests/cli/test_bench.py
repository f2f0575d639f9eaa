"""`passionsr bench` on a tiny model."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from passionsr_cli.benchmark import run
from passionsr_cli.benchmark.measurements import Measurement
from passionsr_cli.benchmark.records import compare
from passionsr_cli.benchmark.settings import BenchmarkSettings
from passionsr_cli.cli.app import app

ROOFS = {"matmul_tops": 0.5, "convolution_tops": 1.0}
MACHINE = {
    "cpu": "abacus",
    "threads": {"torch": 2, "openvino": 2},
    "roofline": {"int8": ROOFS, "bf16": dict.fromkeys(ROOFS), "fp32": ROOFS},
}


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(item) for item in arguments)])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Real processes, but a machine that need not be measured; the cache it uses."""

    real = run.run_task

    def task(name: str, cache: Path, **arguments: object) -> object:
        return MACHINE if name == "hardware:measure_machine" else real(name, cache, **arguments)

    monkeypatch.setattr(run, "run_task", task)
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_slowed_since_a_record_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = tmp_path / "before.json"
    before.touch()

    def rows(seconds: float) -> list[Measurement]:
        values = {"torch fp32-nchw": 4.0, "openvino w8a8": seconds, "openvino bf16": 2.0}
        names = [(*name.split(), value) for name, value in values.items()]
        return [
            Measurement("mini", backend, variant, 512, "cpu", "fp32", 5, value, value, value)
            for backend, variant, value in names
        ]

    def bench(settings: BenchmarkSettings, reporter: object) -> run.Report:
        assert settings.against == before
        comparison = compare(rows(1.2), rows(1.0), settings.tolerance)
        return run.Report({}, [replace(row, tops=1.0) for row in rows(1.2)], comparison)

    monkeypatch.setattr("passionsr_cli.api.bench", bench)
    done = _run("--against", before)
    assert done.exit_code == 1, done.output
    assert "multiples of torch fp32-nchw; 10% tolerated" in done.stdout
    assert "+20%" in done.stdout
    assert "openvino w8a8: slower by 20%" in done.stderr
    tolerant = _run("--against", before, "--tolerance", 0.3, "--json")
    assert tolerant.exit_code == 0, tolerant.output
    assert json.loads(tolerant.stdout)["comparison"]["slower"] == []


def test_json_says_what_was_measured(quick: Path) -> None:
    options = ("--size", 64, "--repeats", 2, "--backend", "openvino", "--device", "cpu")
    done = _run("--model", "mini", "--variants", "fp32", *options, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["machine"] == MACHINE
    (row,) = found["rows"]
    assert set(row) == {
        "model",
        "backend",
        "variant",
        "size",
        "device",
        "precision",
        "runs",
        "seconds",
        "seconds_min",
        "seconds_max",
        "startup_cold_seconds",
        "startup_cached_seconds",
        "peak_memory_bytes",
        "gflop",
        "tops",
        "roofline_share",
        "integer_flop_share",
        "simulated",
        "error",
    }
    assert (row["model"], row["backend"], row["variant"]) == ("mini", "openvino", "fp32")
    assert (row["device"], row["precision"], row["size"]) == ("cpu", "fp32", 64)
    assert row["integer_flop_share"] == 0
    assert row["roofline_share"] == pytest.approx(row["tops"])
    assert row["startup_cold_seconds"] > row["startup_cached_seconds"] > 0
    assert 5e7 < row["peak_memory_bytes"] < 4e9
    assert list(quick.iterdir()) == []


def test_a_failed_row_stands_in_the_table_and_in_the_exit_code(
    quick: Path, least_folder: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(least_folder, tmp_path / "damaged")
    tensors = next(damaged.glob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-1])
    options = ("--size", 64, "--repeats", 1, "--backend", "torch", "--device", "cpu")
    done = _run("--model", damaged, "--variants", "fp32", *options)
    assert done.exit_code == 1
    assert "failed" in done.stdout
    assert "error: torch fp32:" in done.output
    assert "is damaged" in done.output
    assert "abacus, 2 threads; its roof: int8 1.00, bf16 none, fp32 1.00 TOPS" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--variants", "nonsense"], "unknown variant 'nonsense'", 2),
        (["--variants", "fp32,"], "unknown variant ''", 2),
        (["--backend", "tflite"], "--backend: found 'tflite', expected 'torch'", 2),
        (["--size", "0"], "--size: found '0', expected greater than 0", 2),
        (["--variants", "fp32-nchw", "--backend", "openvino"], "no row is left", 2),
        (["--device", "cuda:7"], "this machine has", 1),
        (["--model", "nope"], "unknown model 'nope'", 1),
        (["--model", "passionsr-fp"], "add --random-weights", 1),
    ],
)
def test_every_mistake_gets_one_clear_line(arguments: list[str], message: str, code: int) -> None:
    done = _run(*arguments)
    assert done.exit_code == code
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_ctrl_c_leaves_nothing_behind(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "cache"))
    process = subprocess.Popen(
        [sys.executable, "-m", "passionsr_cli", "bench", "--model", str(least_folder)],
        stderr=subprocess.PIPE,
        text=True,
        # Processes started in the background may ignore Ctrl-C; a terminal's do not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not (requests := list(tmp_path.glob("cache/*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert requests
    children = psutil.Process(process.pid).children()
    # Until it is at work, measuring for longer than this test waits.
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # Shells say 130 of both. Python ends by the signal itself if it came while a class was made.
    assert process.returncode in (130, -signal.SIGINT)
    assert "error: interrupted" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "cache").iterdir()) == []
    # One that had only just been started finds its request missing, and ends by itself.
    assert psutil.wait_procs(children, timeout=30)[1] == []
