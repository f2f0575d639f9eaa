from __future__ import annotations

import json
from pathlib import Path

import foreign
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from passionsr_cli import registry
from passionsr_cli.cli.app import app
from passionsr_cli.models import loading
from passionsr_cli.models.costs import counted_px
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.store import Store


def test_all_registered_models_are_listed() -> None:
    done = CliRunner().invoke(app, ["models", "--json"])
    present = {row["name"]: row["present"] for row in json.loads(done.stdout)["models"]}
    assert [name for name, here in present.items() if here] == ["mini"]
    assert {"hypir-sd2", "omgsr-s-512", "osediff", "passionsr-fp", "pisa-sr"} < set(present)
    table = CliRunner().invoke(app, ["models"]).output
    assert "passionsr-fp" in table
    assert "not here" in table


def test_a_licence_that_forbids_commerce_is_seen_before_its_model_is_used() -> None:
    shown = [["models"], ["models", "--json"], ["models", "show", "hypir-sd2"]]
    for command in shown:
        output = CliRunner().invoke(app, command).output
        assert "non-commercial" in output, command


def test_a_dial_is_shown_with_its_default(dial_model: OneStepModel) -> None:
    loading.save(Store("model").folder("mine"), dial_model, {})
    rows = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)["models"]
    found = {row["name"]: row["realism"] for row in rows}
    assert (found["mine"], found["osediff"]) == (0.25, None)
    (line,) = (x for x in CliRunner().invoke(app, ["models"]).output.splitlines() if "mine" in x)
    assert "0.25" in line
    assert "realism: 0.25" in CliRunner().invoke(app, ["models", "show", "mine"]).output
    shown = json.loads(CliRunner().invoke(app, ["models", "show", "mine", "--json"]).stdout)
    assert shown["realism"] == 0.25


def test_a_folder_s_name_is_no_markup(
    dial_model: OneStepModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loading.save(Path("m[red]"), dial_model, {})
    shown = CliRunner().invoke(app, ["models", "show", "./m[red]"]).output
    assert shown.count("m[red]") == 2


def test_a_model_is_shown_with_its_costs() -> None:
    done = CliRunner().invoke(app, ["models", "show", "mini", "--json"])
    found = json.loads(done.stdout)
    assert found["present"] is True
    assert {part["name"] for part in found["parts"]} == {"unet", "vae"}
    assert "operations" in CliRunner().invoke(app, ["models", "show", "mini"]).output


def test_a_damaged_model_is_told_of_and_removed(dial_model: OneStepModel) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["models", *arguments])

    loading.save(Store("model").folder("mine"), dial_model, {})
    manifest = Store("model").folder("mine") / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    loading.save(Store("model").root / "a b", dial_model, {})
    assert "mine: damaged (" in run().output
    listed = json.loads(run("--json").stdout)
    assert [*listed["damaged"]] == ["a b", "mine"]
    assert "mini" in [row["name"] for row in listed["models"]]
    assert "mine" in CliRunner().invoke(app, ["export", "mine"]).output
    unanswered = run("remove", "mine")
    assert unanswered.exit_code == 2
    assert "add --yes" in unanswered.output
    assert json.loads(run("remove", "mine", "--yes", "--json").stdout) == {"removed": "mine"}
    assert not manifest.parent.exists()
    for name, message in (("mini", "is part of passionsr and stays"), ("mine", "unknown model")):
        refused = run("remove", name, "--yes")
        assert refused.exit_code == 1
        assert message in refused.output


def test_costs_are_of_a_size_that_the_model_takes(tiny_model: OneStepModel) -> None:
    description = tiny_model.description.model_copy(update={"upscale_factor": 3})
    assert counted_px(description) % description.unit_px == 0
    assert 512 < counted_px(description) < 512 + description.unit_px


def test_an_unknown_model_is_one_line() -> None:
    done = CliRunner().invoke(app, ["models", "show", "nope"])
    assert done.exit_code == 1
    assert "unknown model 'nope'" in done.output


def test_a_model_is_added_by_a_recipe_and_upscales(
    tiny_model: OneStepModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = tiny_model.description
    monkeypatch.setitem(registry._registered().descriptions, "tiny", description)
    foreign.write_folder(tmp_path / "base", tiny_model.state_dict(), description, old_names=False)
    torch.save(torch.randn(description.context_shape), tmp_path / "context.pt")
    (tmp_path / "mine.yaml").write_text("like: tiny\ntimestep: 7\n")
    command = ["models", "add", "mine", "--base", str(tmp_path / "base"), "--json"]
    options = ["--context", str(tmp_path / "context.pt"), "--recipe", str(tmp_path / "mine.yaml")]
    done = CliRunner().invoke(app, [*command, *options])
    assert json.loads(done.stdout)["description"]["timestep"] == 7
    Image.new("RGB", (8, 8), "red").save(tmp_path / "photo.png")
    run = ["upscale", str(tmp_path / "photo.png"), "--model", "mine", "--backend", "torch"]
    assert CliRunner().invoke(app, run).exit_code == 0
    assert Image.open(tmp_path / "photo_x4.png").size == (32, 32)
    again = CliRunner().invoke(app, [*command, *options])
    assert again.exit_code == 0
    assert "'mine' is finished already" in again.stderr
    other = CliRunner().invoke(app, [*command, *options[:2]])
    assert other.exit_code == 1
    assert "use --overwrite to replace it" in other.stderr


def test_what_cannot_be_pulled_is_one_line() -> None:
    done = CliRunner().invoke(app, ["models", "pull", "mini"])
    assert done.exit_code == 1
    assert "'mini' cannot be pulled; known are adcsr, hypir-sd2, omgsr-s-512" in done.stderr
