"""`passionsr reproduce` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from passionsr_cli.cli.app import app


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["reproduce", *(str(item) for item in arguments)])


def test_the_table_of_sizes(tmp_path: Path) -> None:
    done = _run("passionsr-table3", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["FP", "DiffBIR", "(50", "steps)", "published", "only", "1618", "49056"] in lines
    (ours,) = (line for line in lines if line[:3] == ["-", "PassionSR-FP", "mini"])
    assert float(ours[-2]) < 13
    found = json.loads(_run("passionsr-table3", "-o", tmp_path / "out", "--json").stdout)
    assert found["columns"][0]["key"] == "parameters_m"
    assert len(found["lines"]) == 12


def test_a_dry_run_makes_nothing(tmp_path: Path, least_folder: Path, home: Path) -> None:
    options = ("--model", least_folder, "--output", tmp_path / "out", "--only", "w8a8", "--dry-run")
    done = _run("passionsr-table2", *options, "--json")
    assert done.exit_code == 0, done.output
    rows = {row["row"]: row for row in json.loads(done.stdout)["rows"]}
    assert len(rows) == 5
    assert rows["MaxMin W8A8"]["checkpoint"] == "least-w8a8-maxmin"
    assert rows["MaxMin W8A8"]["state"] == "to do"
    assert "least-w8a8-passionsr" in _run("passionsr-table2", *options).stdout
    assert not (tmp_path / "out").exists()
    assert not home.exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["table9"], 2, "unknown table 'table9'; known are methods, methods-full-size"),
        (["qartsr-table3", "--dataset", "nowhere"], 1, "no data set 'nowhere'"),
        (["qartsr-table3", "--dataset", "sample", "--model", "nope"], 1, "unknown model 'nope'"),
        (["passionsr-table3", "--model", "nope"], 1, "unknown model 'nope'"),
        (["qartsr-table3", "--dataset", "sample", "--limit", "0"], 2, "limit"),
        (["qartsr-table3", "--dataset", "sample", "--only", "w9"], 2, "no row is called 'w9'"),
        (["passionsr-table3", "-o", __file__], 1, "a file, but --output names a folder"),
        (["qartsr-table3", "--dataset", "sample", "-o", __file__], 1, "a file, but --output"),
    ],
)
def test_what_cannot_be_is_one_line_and_an_exit_code(
    options: list[str], code: int, message: str
) -> None:
    done = _run(*options)
    assert done.exit_code == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
