from __future__ import annotations

import json

from typer.testing import CliRunner

from passionsr_cli.cli.app import app


def test_all_registered_models_are_listed() -> None:
    done = CliRunner().invoke(app, ["models", "--json"])
    present = {row["name"]: row["present"] for row in json.loads(done.stdout)["models"]}
    assert present == {"mini": True, "osediff": False, "passionsr-fp": False}
    table = CliRunner().invoke(app, ["models"]).output
    assert "passionsr-fp" in table
    assert "not here" in table


def test_a_model_is_shown_with_its_costs() -> None:
    done = CliRunner().invoke(app, ["models", "show", "mini", "--json"])
    found = json.loads(done.stdout)
    assert found["present"] is True
    assert {part["name"] for part in found["parts"]} == {"unet", "vae"}
    assert "operations" in CliRunner().invoke(app, ["models", "show", "mini"]).output


def test_an_unknown_model_is_one_line() -> None:
    done = CliRunner().invoke(app, ["models", "show", "nope"])
    assert done.exit_code == 1
    assert "unknown model 'nope'" in done.output
