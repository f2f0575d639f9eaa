from __future__ import annotations

from pathlib import Path

import pytest
from reporting import Heard

import passionsr_cli
from passionsr_cli import UpscaleSettings, upscale
from passionsr_cli.errors import ModelError


def test_every_public_name_exists() -> None:
    for name in passionsr_cli.__all__:
        assert getattr(passionsr_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = passionsr_cli.nonsense


def test_upscaling_from_python_reports_each_image(tmp_path: Path) -> None:
    heard = Heard()
    found = list(
        upscale(
            ["sample:rocket", "missing.png"],
            UpscaleSettings(output=tmp_path, precision="fp32"),
            heard,
        )
    )
    assert isinstance(found[0], passionsr_cli.Done)
    assert found[0].output == tmp_path / "rocket_x4.png"
    assert found[0].output.stat().st_size > 1000
    assert found[1] == passionsr_cli.Failed("missing.png", "missing.png: no such file")
    assert heard.places[-1] == ("sample:rocket", 1.0)
    assert heard.results == found


def test_a_wrong_model_raises_before_the_first_image() -> None:
    with pytest.raises(ModelError):
        upscale(["sample:rocket"], UpscaleSettings(model="nope"))
