"""Benchmarks without processes of their own, which take seconds to start."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from passionsr_cli.benchmark import run
from passionsr_cli.errors import PassionSRError
from passionsr_cli.system.child import Teller, perform

ROOFS = {"matmul_tops": 1e-3, "convolution_tops": 2e-3}
MACHINE = {"cpu": "abacus", "threads": {"torch": 1, "openvino": 1}}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Tasks run in this process, and the machine is a known one; what was asked for, in order."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def run_task(name: str, cache: Path, **arguments: Any) -> Any:
        asked.append((name, arguments))
        if name == "hardware:measure_machine":
            return {**MACHINE, "roofline": dict.fromkeys(("int8", "bf16", "fp32"), ROOFS)}
        monkeypatch.setenv("PASSIONSR_CACHE", str(cache))
        function, told = f"passionsr_cli.benchmark.{name}", StringIO()
        request = {"function": function, "arguments": arguments, "reports": False}
        try:
            perform(json.loads(json.dumps(request)), Teller(told))
        finally:
            monkeypatch.setenv("PASSIONSR_CACHE", str(cache.parent.parent))
        answer = json.loads(told.getvalue())
        if "error" in answer:
            raise PassionSRError(*answer["error"])
        return answer["result"][0]

    monkeypatch.setattr(run, "run_task", run_task)
    return asked


@pytest.fixture
def bench_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """An empty cache; calling it lists what lies there."""
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "cache"))
    return lambda: [path.name for path in (tmp_path / "cache").iterdir()]
