from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from passionsr_cli import api
from passionsr_cli.cli.app import app
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError


def test_a_sweep_prints_json_and_draws(least_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "errors.png"
    arguments = ["sweep-timestep", str(least_folder), "--timesteps", "999,199", "--json"]
    arguments += ["--crops", "1", "--crop-px", "32", "--device", "cpu", "--output", str(picture)]
    picture.write_bytes(b"of others")
    refused = CliRunner().invoke(app, arguments)
    assert "errors.png: is there already, and passionsr did not make it" in refused.stdout
    assert picture.read_bytes() == b"of others"
    picture.unlink()
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert [row["timestep"] for row in shown["rows"]] == [199, 999]
    assert shown["picture"] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_options_stand_above_a_configuration_and_that_above_the_defaults(
    least_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = list[CalibrationSettings]()

    def sweep(settings: CalibrationSettings, *_: object) -> None:
        swept.append(settings)
        raise ConfigError("far enough")

    monkeypatch.setattr(api, "sweep_timesteps", sweep)
    (tmp_path / "own.yaml").write_text("crops: 1\ncrop_px: 64")
    own = ["--config", str(tmp_path / "own.yaml")]
    for arguments in ([], own, [*own, "--crop-px", "32"]):
        CliRunner().invoke(app, ["sweep-timestep", str(least_folder), *arguments])
    found = [(each.crops, each.crop_px, each.method) for each in swept]
    assert found == [(8, 256, "maxmin"), (1, 64, "maxmin"), (1, 32, "maxmin")]
    (tmp_path / "own.yaml").write_text("method: passionsr")
    done = CliRunner().invoke(app, ["sweep-timestep", str(least_folder), *own])
    assert done.exit_code == 2
    assert "a sweep is of min-max, not of method: passionsr" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timesteps", "1,x"], "'1,x' is no list of numbers"),
        (["--timesteps", "1,1000"], "timestep 1000 is outside the schedule"),
        (["--bits", "w4"], "'w4' is no bit width"),
        (["--output", "a.txt"], "a.txt is no picture; use .png"),
    ],
)
def test_what_cannot_be_is_one_line(least_folder: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["sweep-timestep", str(least_folder), *arguments])
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", "").split())
