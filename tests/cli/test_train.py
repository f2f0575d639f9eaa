from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from passionsr_cli.cli.app import app


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    arguments = ["train", "--photos", str(tmp_path / "none"), "--name", "x", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "no such folder; --photos names a folder of images" in " ".join(done.output.split())


def test_a_registered_name_is_not_taken(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    arguments = ["train", "--photos", str(tmp_path), "--name", "mini", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "'mini' exists already" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --photos DIR, or --from MODEL"),
        (["--timestep", "49"], "--timestep needs --from MODEL"),
        (["--from", "mini"], "--from needs --timestep T"),
    ],
)
def test_options_that_do_not_fit_together(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["train", "--name", "x", *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", "").split())


def test_a_timestep_outside_the_schedule_is_one_line() -> None:
    arguments = ["train", "--name", "x", "--from", "mini", "--timestep", "1000"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "timestep 1000 is outside the schedule of 'mini'; choose 0 to 999" in done.output
