from __future__ import annotations

import pytest
from typer.testing import CliRunner

from passionsr_cli.cli.app import app


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("passionsr_cli.upscaling.run.plan_work", broken)
    done = CliRunner().invoke(app, ["upscale", "sample:rocket"])
    assert done.exit_code == 1
    assert "unexpected KeyError (see --debug): 'surprise'" in done.output
    assert "Traceback" not in done.output


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("passionsr 0.")
