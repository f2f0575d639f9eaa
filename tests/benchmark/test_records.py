from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from passionsr_cli.benchmark.measurements import Measurement
from passionsr_cli.benchmark.records import as_dict, check_comparable, compare, read_record
from passionsr_cli.errors import ConfigError, StoreError


def _row(backend: str, variant: str, seconds: float | None, size: int = 512) -> Measurement:
    return Measurement("mini", backend, variant, size, "cpu", "fp32", seconds=seconds)


BEFORE = [
    _row("openvino", "w8a8", 1.0),
    _row("torch", "fp32-nchw", 4.0),
    _row("openvino", "bf16", 2.0),
    _row("openvino", "w6a6", 1.0),
]


def test_a_machine_of_another_speed_is_no_change() -> None:
    halved = [_row(row.backend, row.variant, (row.seconds or 0) / 2) for row in BEFORE]
    found = compare(halved, BEFORE, 0.1)
    assert found.reference == "torch fp32-nchw"
    assert [change.variant for change in found.changes] == ["w8a8", "bf16", "w6a6"]
    assert {change.change for change in found.changes} == {0.0}
    assert not found.slower


def test_what_slowed_beyond_the_tolerance_is_named() -> None:
    now = [
        _row("torch", "fp32-nchw", 8.0),
        _row("openvino", "w8a8", 2.6),
        _row("openvino", "bf16", 4.2),
        _row("openvino", "w6a6", None),
    ]
    found = compare(now, BEFORE, 0.1)
    assert [change.variant for change in found.slower] == ["w8a8"]
    (slowed,) = found.slower
    assert (slowed.before, slowed.now) == (0.25, 0.325)
    assert slowed.change == pytest.approx(0.3)
    # A row that failed is told, and no change.
    assert found.missing == ("openvino w6a6",)
    assert as_dict(found)["slower"] == ["openvino w8a8"]
    assert not compare(now, BEFORE, 0.31).slower


def test_rows_of_another_size_are_others() -> None:
    planned = [("openvino", "w8a8", "fp32", "mini", 256), ("openvino", "bf16", "fp32", "mini", 512)]
    with pytest.raises(ConfigError, match="nothing to compare"):
        check_comparable(planned, BEFORE)
    check_comparable([*planned, ("torch", "fp32-nchw", "fp32", "mini", 512)], BEFORE)


def test_a_record_is_what_json_shows(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    rows = [{**asdict(row), "of a later version": 1} for row in BEFORE]
    path.write_text(json.dumps({"machine": {}, "rows": rows}))
    assert read_record(path) == BEFORE


ROW = {**asdict(BEFORE[0]), "seconds": 1.0}
WRONG: list[dict[str, object]] = [
    {"model": ["mini"]},
    {"size": {}},
    {"backend": None},
    {"seconds": float("nan")},
    {"seconds": float("inf")},
    {"seconds": 0},
    {"seconds": "soon"},
]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"rows": [3]}', '{"rows": [{"model": "mini"}]}', '{"rows": null}'),
        *(json.dumps({"rows": [{**ROW, **wrong}]}) for wrong in WRONG),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "before.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"before\.json is no record") as refused:
        read_record(path)
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(StoreError, match="cannot read"):
        read_record(tmp_path / "missing.json")


def test_kept_records_can_be_compared_with() -> None:
    kept = sorted((Path(__file__).parents[1] / "quality" / "records").glob("*.json"))
    assert kept
    for path in kept:
        rows = read_record(path)
        assert not compare(rows, rows, 0.1).slower
        assert len(compare(rows, rows, 0.1).changes) == len(rows) - 1
