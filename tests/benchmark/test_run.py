from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from reporting import Heard

from passionsr_cli.api import bench
from passionsr_cli.benchmark import run
from passionsr_cli.benchmark.settings import BenchmarkSettings
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, ModelError
from passionsr_cli.graphs.arithmetic import products_saturate
from passionsr_cli.models.costs import measure
from passionsr_cli.system.paths import cache_folder

Asked = list[tuple[str, dict[str, Any]]]


def _settings(model: Path, **options: object) -> BenchmarkSettings:
    values = {"model": str(model), "size": 60, "repeats": 2, "device": "cpu", **options}
    return BenchmarkSettings.model_validate(values)


def test_a_benchmark_measures_each_form_once_on_each_backend(
    in_process: Asked,
    bench_cache: Callable[[], list[str]],
    tiny_folder: Path,
    tiny_description: ModelDescription,
) -> None:
    heard = Heard()
    settings = _settings(tiny_folder, variants=("fp32-nchw", "w6a6"), random_weights=True)
    report = bench(settings, heard)
    assert heard.texts[0] == "size 60 is no multiple of 8; measuring 64"
    rows = {(row.variant, row.backend): row for row in report.rows}
    assert [variant for variant, _ in rows] == ["fp32-nchw", "w6a6", "w6a6"]
    assert [str(row).partition(" s")[0] for row in heard.results] == [
        f"{row.backend} {row.variant}: {row.seconds:.3f}" for row in report.rows
    ]
    operations = sum(p.operations + p.attention_operations for p in measure(tiny_description, 64))
    for row in report.rows:
        assert row.error is None
        assert row.size == 64
        assert row.runs == 2
        assert row.seconds is not None
        assert row.seconds_min is not None
        assert row.seconds_max is not None
        assert row.roofline_share is not None
        assert row.gflop == operations / 1e9
        assert 0 < row.seconds_min <= row.seconds <= row.seconds_max
        assert row.roofline_share == pytest.approx(operations / row.seconds / 2e9)
        assert (row.startup_cached_seconds is None) == (row.backend == "torch")
    integers = rows["w6a6", "openvino"]
    # Every convolution and linear layer runs on integers, of attention's products few; where 8-bit
    # products saturate, the layers kept at 8 bits do not.
    assert integers.integer_flop_share is not None
    assert (0.7 if products_saturate() else 0.8) < integers.integer_flop_share <= 1
    assert rows["w6a6", "torch"].integer_flop_share == 0
    assert [row.variant for row in report.rows if row.simulated] == ["w6a6"]
    assert [name for name, _ in in_process].count("subjects:make_checkpoint") == 1
    assert [name for name, _ in in_process].count("subjects:make_random_model") == 1
    cold, cached = integers.startup_cold_seconds, integers.startup_cached_seconds
    assert cold is not None
    assert cached is not None
    assert cold > cached
    assert bench_cache() == []


def test_a_row_that_fails_leaves_the_others(
    in_process: Asked,
    bench_cache: Callable[[], list[str]],
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("no room\nat all")

    monkeypatch.setattr("passionsr_cli.benchmark.subjects.quantize_min_max", broken)
    settings = _settings(tiny_folder, variants=("w8a8", "bf16", "fp32"), backend=("torch",))
    report = bench(settings)
    assert [(row.variant, row.error) for row in report.rows] == [
        ("w8a8", "unexpected RuntimeError: no room"),
        ("bf16", None),
        ("fp32", None),
    ]
    assert bench_cache() == []


def test_nothing_remains_of_an_interrupted_benchmark(
    bench_cache: Callable[[], list[str]], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str, cache: Path, **arguments: object) -> None:
        (cache / "half").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_task", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench(_settings(tiny_folder))
    assert bench_cache() == []


def test_what_a_killed_benchmark_left_goes_with_the_next(
    in_process: Asked, bench_cache: Callable[[], list[str]], tiny_folder: Path
) -> None:
    killed, running = (cache_folder() / f"bench-{name}" for name in ("killed", "running"))
    for folder in (killed, running):
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"large")
        (folder / "lock").touch()
    with FileLock(running / "lock"):
        bench(_settings(tiny_folder, variants=("fp32",), backend=("torch",)))
        assert not killed.exists()
        assert (running / "weights").exists()
    bench(_settings(tiny_folder, variants=("fp32",), backend=("torch",)))
    assert bench_cache() == []


def test_what_cannot_be_is_refused_before_any_work(in_process: Asked, tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="add --random-weights"):
        bench(BenchmarkSettings(model="passionsr-fp"))
    with pytest.raises(ConfigError, match="unknown variant"):
        bench(_settings(tiny_folder, variants=("w8",)))
    assert in_process == []


def test_a_record_of_other_rows_is_refused_before_any_work(
    in_process: Asked, tiny_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "before.json"
    row = {"model": "mini", "backend": "torch", "variant": "fp32", "device": "cpu"}
    path.write_text(json.dumps({"rows": [{**row, "size": 64, "precision": "fp32", "seconds": 1}]}))
    settings = _settings(tiny_folder, variants=("fp32",), backend=("torch",), against=path)
    with pytest.raises(ConfigError, match="nothing to compare"):
        bench(settings)
    assert in_process == []
