"""Calibration methods: each turns its settings into a design of layers and ordered stages.

A method is one module with a `Settings` class and a `stages` function, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from passionsr_cli.calibration.stages import LayerDesign, Method, Stages
from passionsr_cli.config import CalibrationSettings, Settings, validate
from passionsr_cli.errors import ConfigError
from passionsr_cli.methods import maxmin, passionsr, qartsr

METHODS: dict[str, tuple[type[Settings], Callable[[Any], tuple[LayerDesign, Stages]]]] = {
    "maxmin": (maxmin.MaxMinSettings, maxmin.stages),
    "passionsr": (passionsr.PassionSRSettings, passionsr.stages),
    "qartsr": (qartsr.QArtSRSettings, qartsr.stages),
}


def build(settings: CalibrationSettings) -> Method:
    """The method that the settings name; refuses unknown names, keys and values."""
    name = settings.method
    for known in (name, *settings.method_settings):
        if known not in METHODS:
            raise ConfigError(f"unknown method '{known}'; known are {', '.join(METHODS)}")
    kind, stages = METHODS[name]
    own = validate(settings.method_settings.get(name, {}), kind, f"method_settings.{name}")
    return Method(name, own.model_dump(mode="json"), *stages(own))
