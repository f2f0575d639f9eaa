from __future__ import annotations

from typing import Any

import pytest

from passionsr_cli import methods
from passionsr_cli.calibration.stages import LBQ, LET
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.quantization.plans import State


def _build(name: str = "passionsr", **settings: Any) -> Any:
    return methods.build(CalibrationSettings(method=name, method_settings={name: settings}))


def test_passionsr_goes_from_the_encoder_to_the_decoder() -> None:
    stages = _build().stages
    assert [stage.components for stage in stages] == [("encoder",), ("unet",), ("decoder",)]
    for stage in stages:
        assert (stage.learns, stage.state) == (LET | LBQ, State.QUANTIZING)
        assert stage.starts == LET | LBQ


def test_let_and_lbq_can_follow_one_another_as_published() -> None:
    stages = _build(separate=True).stages
    assert [stage.components for stage in stages] == [
        (part,) for part in ("encoder", "unet", "decoder") for _ in range(2)
    ]
    let, lbq = stages[:2]
    assert (let.learns, let.state) == (LET, State.FOLLOWING)
    assert let.starts == LET
    # Bounds start anew from what LET made.
    assert (lbq.learns, lbq.state) == (LBQ, State.QUANTIZING)
    assert lbq.starts == LBQ


def test_photographs_are_the_decoders_target_alone() -> None:
    stages = _build(decoder_target="hr").stages
    assert {stage.components[0] for stage in stages if stage.target == "hr"} == {"decoder"}


def test_maxmin_learns_nothing() -> None:
    method = _build("maxmin")
    assert [stage.fit for stage in method.stages] == [None]
    assert not method.design.channel_scale


def test_settings_of_other_methods_may_stand_beside() -> None:
    settings = CalibrationSettings(
        method="maxmin", method_settings={"passionsr": {"distributed": False}}
    )
    assert methods.build(settings).name == "maxmin"


def test_unknown_names_and_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown method 'lsq'; known are maxmin, passionsr"):
        _build("lsq")
    with pytest.raises(ConfigError, match="unknown key 'lqb', did you mean 'lbq'"):
        _build(lqb={})
    with pytest.raises(ConfigError, match=r"let\.learning_rate: Input should be greater than 0"):
        _build(let={"steps": 3, "learning_rate": 0})
