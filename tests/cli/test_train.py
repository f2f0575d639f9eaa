from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from passionsr_cli.cli.app import app


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    arguments = ["train", "--photos", str(tmp_path / "none"), "--name", "x", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "no such folder; --photos names a folder of photographs" in " ".join(done.output.split())


def test_a_registered_name_is_not_taken(tmp_path: Path) -> None:
    arguments = ["train", "--photos", str(tmp_path), "--name", "mini", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "'mini' exists already" in done.output
