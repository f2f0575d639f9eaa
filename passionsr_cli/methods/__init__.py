"""Calibration methods: each turns its settings into a design of layers and ordered stages.

A method is one module with a `Settings` class and a `stages` function, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from passionsr_cli.bits import FEWEST_BITS, FLOAT_BITS, MOST_BITS
from passionsr_cli.config import CalibrationSettings, FitSettings, Settings
from passionsr_cli.errors import ConfigError
from passionsr_cli.layering import validate
from passionsr_cli.methods import (
    efficientdm,
    lsq,
    maxmin,
    passionsr,
    qartsr,
    qdiffusion,
    qdm,
    svdquant,
)
from passionsr_cli.methods.checks import check_method
from passionsr_cli.methods.stages import LayerDesign, Learnables, Method, Stages
from passionsr_cli.quantization.schemes import Learnable
from passionsr_cli.system.text import suggestion

INTEGERS = tuple(range(FEWEST_BITS, MOST_BITS + 1))
ANY = (*INTEGERS, FLOAT_BITS)


class Known(NamedTuple):
    """A method, and the bit widths that it supports where a part is quantized at all."""

    settings: type[Settings]
    stages: Callable[[Any], tuple[LayerDesign, Stages]]
    weight_bits: tuple[int, ...] = ANY
    activation_bits: tuple[int, ...] = ANY


METHODS: dict[str, Known] = {
    "maxmin": Known(maxmin.MaxMinSettings, maxmin.stages),
    "passionsr": Known(passionsr.PassionSRSettings, passionsr.stages),
    "qartsr": Known(qartsr.QArtSRSettings, qartsr.stages, weight_bits=INTEGERS),
    "lsq": Known(lsq.LSQSettings, lsq.stages),
    "qdiffusion": Known(qdiffusion.QDiffusionSettings, qdiffusion.stages, INTEGERS, INTEGERS),
    "efficientdm": Known(efficientdm.EfficientDMSettings, efficientdm.stages, INTEGERS),
    "qdm": Known(qdm.QDMSettings, qdm.stages, activation_bits=INTEGERS),
    "svdquant": Known(svdquant.SVDQuantSettings, svdquant.stages, INTEGERS),
}


def build(settings: CalibrationSettings) -> Method:
    """The method that the settings name; refuses unknown names, keys, values and bit widths."""
    name = settings.method
    for known in (name, *settings.method_settings):
        if known not in METHODS:
            raise ConfigError(f"unknown method '{known}'{suggestion(known, METHODS)}")
    method = METHODS[name]
    _check_bits(name, method, settings)
    given = _over_defaults(settings.method_settings.get(name, {}), method.settings)
    own = validate(given, method.settings, f"method_settings.{name}")
    built = Method(name, own.model_dump(mode="json"), *method.stages(own))
    check_method(built)
    for stage in built.stages:
        if stage.fit is not None:
            _check_fit(stage.name, stage.fit, stage.learns)
    return built


def _over_defaults(given: dict[str, Any], kind: type[Settings]) -> dict[str, Any]:
    """Given settings, a fit's values above those that the method's own fit sets."""
    whole = dict(given)
    for key, value in given.items():
        default = kind.model_fields[key].default if key in kind.model_fields else None
        if isinstance(value, dict) and isinstance(default, Settings):
            whole[key] = {**default.model_dump(exclude_unset=True), **value}
    return whole


def _check_fit(stage: str, fit: FitSettings, learns: Learnables) -> None:
    """Refuse what would do nothing."""
    for part in fit.rates:
        if Learnable(part) not in learns:
            known = ", ".join(sorted(each.value for each in learns))
            raise ConfigError(f"rates: the stage '{stage}' learns no {part}; it learns {known}")
    others = ("milestones", "decay") if fit.schedule == "cosine" else ("final_learning_rate",)
    for key in others:
        if getattr(fit, key) != FitSettings.model_fields[key].default:
            raise ConfigError(
                f"{key} does nothing with the schedule '{fit.schedule}'; leave it out"
            )


def _check_bits(name: str, method: Known, settings: CalibrationSettings) -> None:
    for component, bits in (("unet", settings.unet), ("vae", settings.vae)):
        if bits.floating:
            continue
        for what, found, known in (
            ("weights", bits.weight, method.weight_bits),
            ("activations", bits.activation, method.activation_bits),
        ):
            if found not in known:
                raise ConfigError(
                    f"method '{name}' supports {what} of {known[0]} to {known[-1]} bits, and the "
                    f"{component} has {bits}; choose other bits, or fp to leave the {component} "
                    "alone"
                )
