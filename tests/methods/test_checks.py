"""Mistakes in a method as it is written."""

from __future__ import annotations

from typing import Any

import pytest

from passionsr_cli.config import FitSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.methods.checks import check_method
from passionsr_cli.methods.stages import (
    LBQ,
    LET,
    PLAIN,
    Branches,
    Grids,
    LayerDesign,
    Method,
    Stage,
    StartBounds,
    StartTransform,
    component_stages,
)
from passionsr_cli.models.components import COMPONENTS
from passionsr_cli.quantization.schemes import Learnable

FIT = FitSettings(steps=2, learning_rate=0.1)
BOUNDS: Any = (StartBounds(),)
STEPS = Stage("steps", COMPONENTS, BOUNDS, LBQ, FIT)


def _check(design: Any, *stages: Any) -> None:
    check_method(Method("mine", {}, design, stages))


@pytest.mark.parametrize(
    ("design", "stage", "message"),
    [
        (LayerDesign(grids=Grids("msee")), STEPS, "grids.bounds_start: found 'msee', expected 'ex"),
        (LayerDesign(rounding="up"), STEPS, "design.rounding: found 'up'"),
        (LayerDesign(branches=Branches({"lin": 3})), STEPS, "'lin' is no kind of layers"),
        (PLAIN, Stage("a", COMPONENTS, BOUNDS, target="techer"), "target: found 'techer'"),
        (PLAIN, Stage("a", "unet", BOUNDS), "components: found 'unet', expected a valid tuple"),
        (PLAIN, Stage("a", COMPONENTS, StartBounds()), "starts: .* valid tuple"),
        (PLAIN, Stage("a", COMPONENTS, (StartTransform(0.5), *BOUNDS)), "exponents: .* tuple"),
        (PLAIN, Stage("a", COMPONENTS, BOUNDS, Learnable.BOUNDS), "learns: .* valid frozenset"),
        (PLAIN, Stage("a", ("vae",), BOUNDS), "the stage 'a' names 'vae'; known are encoder"),
        (PLAIN, Stage("a", ("unet", "encoder"), BOUNDS), "expected neighbours in the order of"),
        (PLAIN, Stage("a", ()), "has (); expected neighbours"),
        (PLAIN, Stage("a", COMPONENTS, BOUNDS, target="noise"), "which only (unet,) has"),
        (PLAIN, Stage("a", COMPONENTS, BOUNDS, LET | LBQ, FIT), "learns transform, which the des"),
        (PLAIN, Stage("a", COMPONENTS, BOUNDS, frozenset(), FIT), "has a fit and learns nothing"),
        (PLAIN, Stage("a", COMPONENTS, (), LBQ, FIT), "learns before the encoder has bounds"),
        (PLAIN, Stage("a", ("unet",), BOUNDS), "no stage has StartBounds() for the encoder"),
    ],
)
def test_mistakes_are_one_line(design: Any, stage: Any, message: str) -> None:
    _check(PLAIN, STEPS)
    with pytest.raises(ConfigError) as caught:
        _check(design, stage)
    told = str(caught.value)
    assert told.startswith("method 'mine': ")
    assert "\n" not in told
    for part in message.split(" .* "):
        assert part in told


def test_each_stage_has_a_name_of_its_own() -> None:
    with pytest.raises(ConfigError, match="2 stages are named 'steps'"):
        _check(PLAIN, STEPS, STEPS)
    _check(PLAIN, *component_stages(BOUNDS, LBQ, FIT, "noise"))
