from __future__ import annotations

from typing import Any

import pytest

from passionsr_cli import methods
from passionsr_cli.config import CalibrationSettings, FitSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.methods.stages import LBQ, LET, StartBounds, StartTransform
from passionsr_cli.quantization.schemes import Learnable, State


def _build(name: str = "passionsr", **settings: Any) -> Any:
    return methods.build(CalibrationSettings(method=name, method_settings={name: settings}))


def test_passionsr_goes_from_the_encoder_to_the_decoder() -> None:
    stages = _build().stages
    assert [stage.components for stage in stages] == [("encoder",), ("unet",), ("decoder",)]
    for stage in stages:
        assert (stage.learns, stage.state) == (LET | LBQ, State.QUANTIZING)
        assert stage.starts == (StartTransform((0.5,)), StartBounds())


def test_let_and_lbq_can_follow_one_another_as_published() -> None:
    stages = _build(separate=True).stages
    assert [stage.components for stage in stages] == [
        (part,) for part in ("encoder", "unet", "decoder") for _ in range(2)
    ]
    let, lbq = stages[:2]
    assert (let.learns, let.state) == (LET, State.FOLLOWING)
    assert let.starts == (StartTransform((0.5,)),)
    # Bounds start anew from what LET made.
    assert (lbq.learns, lbq.state) == (LBQ, State.QUANTIZING)
    assert lbq.starts == (StartBounds(),)


def test_photographs_are_the_decoders_target_alone() -> None:
    stages = _build(decoder_target="hr").stages
    assert {stage.components[0] for stage in stages if stage.target == "hr"} == {"decoder"}


def test_maxmin_learns_nothing() -> None:
    method = _build("maxmin")
    assert [stage.fit for stage in method.stages] == [None]
    assert not method.design.transformation.channel_scale


def test_settings_of_other_methods_may_stand_beside() -> None:
    settings = CalibrationSettings(
        method="maxmin", method_settings={"passionsr": {"distributed": False}}
    )
    assert methods.build(settings).name == "maxmin"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rates": {"transform": 2.0}}, "the stage 'steps' learns no transform; it learns bounds"),
        ({"decay": 0.5}, "decay does nothing with the schedule 'cosine'"),
        ({"milestones": [0.2]}, "milestones does nothing"),
        ({"schedule": "milestones", "final_learning_rate": 0.1}, "final_learning_rate does"),
        ({"schedule": "milestones", "milestones": [50, 80]}, "expected less than 1"),
        ({"schedule": "milestones", "decay": -2}, "expected greater than 0"),
    ],
)
def test_settings_of_a_fit_that_cannot_be_or_would_do_nothing_are_refused(
    values: dict[str, Any], message: str
) -> None:
    fit = {"steps": 3, "learning_rate": 0.1}
    with pytest.raises(ConfigError, match=message):
        _build("lsq", fit={**fit, **values})
    _build("lsq", fit={**fit, "rates": {"bounds": 2.0}})


def test_what_a_fit_leaves_out_is_the_methods_own() -> None:
    assert _build(component={"steps": 2}).stages[0].fit == FitSettings(steps=2, learning_rate=1.0)
    assert _build("qartsr", module=None, end_to_end={"steps": 2}).stages[-1].fit.steps == 2
    # Ranks are not added to the method's.
    assert _build("qartsr", ranks={"linear": 2}).design.branches.ranks == {"linear": 2}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"transformation": False, "exponent": 0.7},
            "exponent does nothing without transformation",
        ),
        ({"transformation": False, "split": False}, "split does nothing"),
        ({"transformation": False, "separate": True}, "separate does nothing without transform"),
        ({"distributed": False, "separate": True}, "separate does nothing without distributed"),
    ],
)
def test_settings_of_parts_that_are_left_out_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _build(**values)
    # A file may have the fits of every variant.
    fit = {"steps": 3, "learning_rate": 0.1}
    _build(transformation=False, distributed=False, component=fit, let=fit, lbq=fit)


def test_unknown_names_and_keys_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown method 'lqs'; did you mean 'lsq'"):
        _build("lqs")
    with pytest.raises(ConfigError, match="unknown key 'lqb'; did you mean 'lbq'"):
        _build(lqb={})
    with pytest.raises(ConfigError, match=r"let\.learning_rate: found .* greater than 0"):
        _build(let={"steps": 3, "learning_rate": 0})


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("svdquant", "ranks"),
        ("qartsr", "ranks"),
        *((n, "merged_ranks") for n in ("qartsr", "efficientdm")),
    ],
)
def test_ranks_of_what_is_no_kind_of_layers_are_refused(name: str, key: str) -> None:
    _build(name, **{key: {"linear": 4, "unet.pointwise": 0, "decoder.convolution": 2}})
    unbranched = _build(name, **{key: {}})
    part = Learnable.MERGED if key == "merged_ranks" else Learnable.BRANCH
    assert all(part not in stage.learns for stage in unbranched.stages)
    for typed, meant in (("lineer", "linear"), ("decoder.pointwse", "decoder.pointwise")):
        wanted = rf"{key}\.{typed}: .* write linear.*; did you mean '{meant}'"
        with pytest.raises(ConfigError, match=wanted) as caught:
            _build(name, **{key: {typed: 4}})
        assert "[key]" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"'vae\.linear' is no kind of layers"):
        _build(name, **{key: {"vae.linear": 2}})
    with pytest.raises(ConfigError, match=rf"{key}\.linear: found '-1', expected greater"):
        _build(name, **{key: {"linear": -1}})


def test_what_no_fit_could_use_is_refused() -> None:
    for exponent in (float("nan"), float("inf"), -0.5):
        with pytest.raises(ConfigError, match=r"svdquant: exponents\.0: "):
            _build("svdquant", exponents=[exponent])
    with pytest.raises(ConfigError, match="so end_to_end has no loss; give one of them more"):
        _build("qartsr", output_weight=0, perceptual_weight=0)
    weightless = {"output_weight": 0, "perceptual_weight": 0, "end_to_end": None}
    with pytest.raises(ConfigError, match="so module has no loss"):
        _build("qartsr", **weightless, module_weight=0)
    assert _build("qartsr", **weightless).stages
    assert _build("qartsr", **weightless, module_weight=0, module=None).stages


def test_lsq_learns_all_steps_from_the_image_at_once() -> None:
    method = _build("lsq")
    sgd = {"steps": 1, "learning_rate": 1, "optimizer": "sgd"}
    assert not method.design.grids.scaled_gradient
    assert _build("lsq", fit=sgd).design.grids.scaled_gradient
    (stage,) = method.stages
    assert stage.components == ("encoder", "unet", "decoder")
    assert stage.learns == LBQ
    assert len(_build("lsq", distributed=True).stages) == 3


@pytest.mark.parametrize("name", ["efficientdm", "qdm"])
def test_the_noise_is_the_unets_target(name: str) -> None:
    targets = {stage.components: stage.target for stage in _build(name).stages}
    assert targets == {("encoder",): "teacher", ("unet",): "noise", ("decoder",): "teacher"}


def test_efficientdm_learns_adapters_with_their_steps() -> None:
    method = _build("efficientdm")
    assert set(method.design.merged.ranks.values()) == {32}
    assert not method.design.branches.ranks
    for stage in method.stages:
        assert stage.learns == LBQ | {Learnable.MERGED}
        assert stage.starts == (StartBounds(),)


def test_qdm_learns_steps_alone() -> None:
    method = _build("qdm")
    transformation = method.design.transformation
    assert (transformation.attention_scale, transformation.channel_scale) == ("deviations", False)
    for stage in method.stages:
        assert stage.learns == LBQ
        assert stage.starts == (StartTransform((method.settings["exponent"],)), StartBounds())


@pytest.mark.parametrize(
    ("name", "unet", "wanted"),
    [
        ("efficientdm", "w16a8", "supports weights of 2 to 8 bits, and the unet has w16a8"),
        ("qdm", "w4a16", "supports activations of 2 to 8 bits, and the unet has w4a16"),
        ("qartsr", "w16a4", "supports weights of 2 to 8 bits"),
    ],
)
def test_bits_a_method_does_not_support_are_one_line(name: str, unet: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"method '{name}' {wanted}") as caught:
        methods.build(CalibrationSettings(method=name, unet=unet))
    assert "\n" not in str(caught.value)
    methods.build(CalibrationSettings(method=name, unet="fp"))
    methods.build(CalibrationSettings(method="passionsr", unet=unet))
