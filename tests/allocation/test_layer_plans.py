from __future__ import annotations

import copy

import pytest

from passionsr_cli import methods
from passionsr_cli.allocation.layer_plans import (
    check_design,
    check_names,
    quantize_model,
)
from passionsr_cli.bits import FLOATING
from passionsr_cli.checkpoints.catalogue import bits_of
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.methods.stages import (
    PLAIN,
    Branches,
    LayerDesign,
    MergedBranches,
    Transformation,
)
from passionsr_cli.models.catalogue import find_present
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.schemes import EXCEPTION, NARROWED, LayerPlan, LayerRecord

ALL = LayerDesign(Transformation(True, "unpadded", split=True))


def _rows(model: OneStepModel, **settings: object) -> dict[str, LayerRecord]:
    rows = quantize_model(model, CalibrationSettings(**settings), ALL)  # type: ignore[arg-type]
    return {row.name: row for row in rows}


def test_exceptions_keep_eight_bits_and_say_so(tiny_model: OneStepModel) -> None:
    rows = _rows(tiny_model, unet="w4a6", vae="w2a2", float_layers=())
    lifted = [name for name, row in rows.items() if row.reason == EXCEPTION]
    assert sorted(lifted) == sorted(CalibrationSettings().eight_bit_layers)
    assert {bits_of(rows[name]) for name in lifted} == {"w8a8"}
    assert bits_of(rows["unet.down_blocks.0.resnets.0.conv1"]) == "w4a6"
    assert bits_of(rows["vae.decoder.mid_block.resnets.0.conv1"]) == "w2a2"
    assert bits_of(rows["unet.mid_block.attentions.0.transformer_blocks.0.attn1"]) == "a6"


def test_what_carries_the_image_is_left_alone_at_any_bits(tiny_model: OneStepModel) -> None:
    rows = _rows(tiny_model, unet="w4a6", vae="w5a3")
    left = {name for name, row in rows.items() if row.plan is None}
    # All of the autoencoder that is outside of its blocks.
    assert left == {name for name in rows if name.startswith("vae.") and "block" not in name}
    assert len(left) == 6
    lifted = [name for name, row in rows.items() if row.reason == EXCEPTION]
    assert sorted(lifted) == ["unet.conv_in", "unet.conv_out", "unet.time_embedding.linear_1"]


UPSAMPLER = "vae.decoder.up_blocks.0.upsamplers.0.conv"


@pytest.mark.parametrize(
    ("bits", "wanted", "symmetric"),
    [("w8a8", "w6a8", True), ("w6a4", "w6a4", True), ("w4a8", "w4a8", False), ("a8", "a8", None)],
)
def test_weights_behind_an_upsampling_sum_to_eight_bits(
    tiny_model: OneStepModel, bits: str, wanted: str, symmetric: bool | None
) -> None:
    row = _rows(tiny_model, vae=bits, unet="w2a2")[UPSAMPLER]
    assert bits_of(row).removeprefix("w16") == wanted
    assert row.reason == (NARROWED if bits == "w8a8" else "")
    assert (None if row.weight is None else row.weight.symmetric) == symmetric
    if row.weight is not None:
        lowest, highest = row.weight.quant_min, row.weight.quant_max
        widest = max(-lowest, highest) if symmetric else highest - lowest
        assert 4 * widest <= 127


@pytest.mark.parametrize(
    "named", [{"eight_bit_layers": 1}, {"layer_bits": 1}], ids=lambda named: next(iter(named))
)
def test_weights_behind_an_upsampling_have_eight_bits_where_they_are_named(
    tiny_model: OneStepModel, named: dict[str, object]
) -> None:
    given: object = (UPSAMPLER,) if "eight_bit_layers" in named else {UPSAMPLER: "w8a8"}
    row = _rows(tiny_model, **dict.fromkeys(named, given))[UPSAMPLER]
    assert (bits_of(row), row.reason) == ("w8a8", "")


def test_eight_bit_weights_are_symmetric_and_fewer_are_not(tiny_model: OneStepModel) -> None:
    rows = _rows(tiny_model, unet="w8a8", vae="w6a8")
    unet = rows["unet.conv_in"].weight
    vae = rows["vae.decoder.mid_block.resnets.0.conv1"].weight
    assert unet is not None
    assert vae is not None
    assert (unet.symmetric, vae.symmetric) == (True, False)
    assert unet.channel_axis == 0


def test_symmetry_and_granularity_can_be_chosen(tiny_model: OneStepModel) -> None:
    rows = _rows(tiny_model, weights="asymmetric", weight_grids="tensor", activations="symmetric")
    row = rows["unet.conv_in"]
    assert row.weight is not None
    assert row.activation is not None
    assert (row.weight.symmetric, row.weight.channel_axis) == (False, None)
    assert row.activation.symmetric


def test_parts_can_stay_in_floating_point(tiny_model: OneStepModel) -> None:
    rows = _rows(tiny_model, unet="w8a8", vae="fp")
    left = {name for name, row in rows.items() if row.plan is None}
    assert left == {name for name in rows if name.startswith("vae.")}
    assert "left in floating point by the settings" in rows["vae.decoder.conv_in"].reason


def test_layers_can_stay_in_floating_point(tiny_model: OneStepModel) -> None:
    rows = _rows(tiny_model, float_layers=("vae.decoder.conv_out",))
    left = [name for name, row in rows.items() if row.plan is None]
    assert left == ["vae.decoder.conv_out"]
    assert "left in floating point by the settings" in rows["vae.decoder.conv_out"].reason


def test_weights_alone_can_be_quantized(tiny_model: OneStepModel) -> None:
    rows = _rows(tiny_model, unet="w4a16", vae="w4a16")
    assert bits_of(rows["unet.down_blocks.0.resnets.0.conv1"]) == "w4a16"
    assert bits_of(rows["unet.conv_out"]) == "w8a16"
    attention = rows["unet.mid_block.attentions.0.transformer_blocks.0.attn1"]
    assert attention.plan is None
    assert "floating point" in attention.reason


def test_shifts_and_splits_stand_where_they_are_free(tiny_model: OneStepModel) -> None:
    rows = _rows(tiny_model)
    padded = rows["unet.up_blocks.0.resnets.0.conv1"].plan
    shortcut = rows["unet.up_blocks.0.resnets.0.conv_shortcut"].plan
    plain = rows["unet.down_blocks.0.resnets.0.conv1"].plan
    assert isinstance(padded, LayerPlan)
    assert isinstance(shortcut, LayerPlan)
    assert isinstance(plain, LayerPlan)
    assert (padded.channel_shift, padded.split) == (False, 16)
    assert (shortcut.channel_shift, shortcut.split) == (True, 16)
    assert plain.split is None


def test_without_transformation_there_is_none(tiny_model: OneStepModel) -> None:
    rows = quantize_model(tiny_model, CalibrationSettings(), PLAIN)
    plans = [row.plan for row in rows if isinstance(row.plan, LayerPlan)]
    assert not any(plan.channel_scale or plan.channel_shift or plan.split for plan in plans)


def test_plans_may_name_an_attention_that_the_model_goes_without(
    least_model: OneStepModel,
) -> None:
    """As those of a model that has it do."""
    given = {"layer_bits": {"vae.encoder.mid_block.attentions.0": "a8"}}
    check_names(least_model.description, CalibrationSettings.model_validate(given))


@pytest.mark.parametrize("setting", ["eight_bit_layers", "float_layers"])
def test_a_layer_that_does_not_exist_is_named(tiny_model: OneStepModel, setting: str) -> None:
    settings = CalibrationSettings.model_validate({setting: ("unet.conv_uot",)})
    wanted = rf"{setting}: .* no layer 'unet\.conv_uot'; did you mean 'unet\.conv_"
    with pytest.raises(ConfigError, match=wanted):
        check_names(tiny_model.description, settings)
    check_names(tiny_model.description, CalibrationSettings())


def test_ranks_are_of_kinds_and_of_wide_layers(tiny_model: OneStepModel) -> None:
    design = LayerDesign(
        branches=Branches({"linear": 3, "convolution": 2, "encoder.convolution": 1}, narrowest=8),
        merged=MergedBranches({"pointwise": 2}),
    )
    settings = CalibrationSettings(unet="w4a4", vae="w4a4")
    layers = dict(tiny_model.named_modules())
    rows = quantize_model(tiny_model, settings, design)
    plans = {row.name: row.plan for row in rows if isinstance(row.plan, LayerPlan)}
    assert len(plans) > 50
    for name, plan in plans.items():
        shape = tuple(layers[name].weight.shape)
        exceptional = name in settings.eight_bit_layers
        wide = min(shape[:2]) >= 8
        if len(shape) == 2:
            rank, merged = 3, 0
        elif shape[2:] == (1, 1):
            rank, merged = 0, 2
        else:
            rank, merged = (1 if name.startswith("vae.encoder.") else 2), 0
        assert plan.rank == (rank if wide and not exceptional else 0), name
        assert plan.merged_rank == (0 if exceptional else merged), name


@pytest.mark.parametrize("method", ["qartsr", "svdquant"])
def test_ranks_of_the_methods_fit_the_embedded_model(method: str) -> None:
    settings = CalibrationSettings(method=method, unet="w2a2", vae="w2a2")
    check_design(find_present(settings.model).description, settings, methods.build(settings).design)


def test_a_rank_above_a_layers_size_names_the_layer(tiny_model: OneStepModel) -> None:
    design = LayerDesign(branches=Branches({"unet.linear": 9}))
    settings = CalibrationSettings(unet="w4a4", vae="w4a4")
    with pytest.raises(ConfigError, match=r"rank 9 is too large for unet\.\S+, .* lower the rank"):
        check_design(tiny_model.description, settings, design)
    # Layers that are kept at 8 bits have no branch, and those in floating point.
    settings = settings.model_copy(update={"vae": FLOATING})
    design = LayerDesign(branches=Branches({"encoder.pointwise": 99}))
    check_design(tiny_model.description, settings, design)


def test_a_layer_may_be_given_a_rank(tiny_model: OneStepModel) -> None:
    name = "unet.mid_block.resnets.0.conv1"
    design = LayerDesign(branches=Branches({"convolution": 2}))
    for text, rank in (("w4a4", 2), ("w4a4r0", 0), ("w4a4r5", 5)):
        settings = CalibrationSettings.model_validate({"layer_bits": {name: text}})
        check_design(tiny_model.description, settings, design)
        rows = quantize_model(copy.deepcopy(tiny_model), settings, design)
        plan = next(row.plan for row in rows if row.name == name)
        assert isinstance(plan, LayerPlan)
        assert plan.rank == rank


@pytest.mark.parametrize(
    ("ranks", "text", "message"),
    [
        ({}, "w4a4r2", "method 'passionsr' has no branches; leave r2 out"),
        ({"convolution": 2}, "w4a4r99", "rank 99 is too large for unet.mid_block.resnets.0.conv1"),
    ],
)
def test_a_rank_that_cannot_be_is_refused(
    tiny_model: OneStepModel, ranks: dict[str, int], text: str, message: str
) -> None:
    given = {"layer_bits": {"unet.mid_block.resnets.0.conv1": text}}
    settings = CalibrationSettings.model_validate(given)
    with pytest.raises(ConfigError, match=message):
        check_design(tiny_model.description, settings, LayerDesign(branches=Branches(ranks)))
