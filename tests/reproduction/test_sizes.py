from __future__ import annotations

from pathlib import Path

import pytest

from passionsr_cli.reproduction.listener import Listener
from passionsr_cli.reproduction.run import reproduce
from passionsr_cli.reproduction.settings import ReproductionSettings


def test_passionsr_fp_has_the_published_size_and_work(tmp_path: Path) -> None:
    """No weights are needed, and nothing is calibrated."""
    settings = ReproductionSettings(
        table="passionsr-table3", model="passionsr-fp", output=tmp_path / "out"
    )
    table = reproduce(settings, Listener())
    ours = {line.row: line.values for line in table.lines if line.whose == "passionsr-fp"}
    printed = {line.row: line.values for line in table.lines if line.state == "published"}
    assert set(ours) == set(printed)
    assert len(ours) == 5
    for row, values in printed.items():
        assert ours[row]["parameters_m"] == pytest.approx(values["parameters_m"], abs=1)
        assert ours[row]["operations_g"] == pytest.approx(values["operations_g"], rel=0.002)
    alone = [line.row for line in table.lines if line.state == "published only"]
    assert alone == ["DiffBIR (50 steps)", "OSEDiff"]
    text = (tmp_path / "out" / "table.md").read_text()
    assert "|  | DiffBIR (50 steps) | published only | 1618 | 49056 |" in text.replace("FP", "")
