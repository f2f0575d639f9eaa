"""The ordered starts that methods list, and what the engine makes of their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from passionsr_cli import api, methods
from passionsr_cli.calibration import starts
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.methods.stages import RoundByGPTQ, StartBounds, StartBranches, StartTransform


def _starts(method: str, **own: Any) -> list[object]:
    settings = CalibrationSettings(method=method, method_settings={method: own})
    return list(methods.build(settings).stages[0].starts)


def test_svdquant_smooths_then_branches_then_bounds_then_rounds() -> None:
    assert _starts("svdquant", exponents=(0.3, 0.7)) == [
        StartTransform((0.3, 0.7), branches=True),
        StartBranches(),
        StartBounds(),
        RoundByGPTQ(),
    ]
    assert RoundByGPTQ() not in _starts("svdquant", rounding="nearest")


def test_qartsr_starts_as_svdquant_does() -> None:
    own = _starts("svdquant", rounding="nearest")
    assert own == [StartTransform((0.7,), branches=True), StartBranches(), StartBounds()]
    # One exponent is not searched for.
    assert _starts("qartsr") == [StartTransform((0.7,)), *own[1:]]


def test_starts_are_taken_in_their_order_at_each_component(
    settings_of: Callable[..., CalibrationSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[str, str]] = []
    plain = starts.start

    def noted(what: Any, head: starts.Head) -> None:
        taken.append((head.name, type(what).__name__))
        plain(what, head)

    monkeypatch.setattr("passionsr_cli.calibration.engine.start", noted)
    own = {"bounds_start": "extremes", "ranks": {"linear": 4}}
    api.calibrate(settings_of("svdquant", vae="w4a4", **own), "rounded")
    order = ["StartTransform", "StartBranches", "StartBounds", "RoundByGPTQ"]
    components = ("encoder", "unet", "decoder")
    assert taken == [(component, name) for component in components for name in order]
