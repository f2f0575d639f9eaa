"""Options reach the settings: `given` passes on those that are fields, and drops all others."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

from passionsr_cli.benchmark.settings import BenchmarkSettings
from passionsr_cli.cli.app import app
from passionsr_cli.config import CalibrationSettings, UpscaleSettings
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.reproduction.settings import ReproductionSettings
from passionsr_cli.serving.settings import ServeSettings

EVERYWHERE = {"config", "as_json"}


@pytest.mark.parametrize(
    ("command", "kind", "apart"),
    [
        ("upscale", UpscaleSettings, {"inputs", "watch", "compare", "contact_sheet", "beside"}),
        ("calibrate", CalibrationSettings, {"bits", "plan", "name", "resume"}),
        ("evaluate", EvaluationSettings, set()),
        ("bench", BenchmarkSettings, set()),
        ("reproduce", ReproductionSettings, {"dry_run"}),
        ("serve", ServeSettings, set()),
        ("sweep-timestep", CalibrationSettings, {"bits", "timesteps", "retrained", "picture"}),
    ],
)
def test_every_option_is_a_setting_or_is_read_by_its_command(
    command: str, kind: type[BaseModel], apart: set[str]
) -> None:
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    options = {parameter.name for parameter in program.commands[command].params}
    assert options - kind.model_fields.keys() - EVERYWHERE == apart
