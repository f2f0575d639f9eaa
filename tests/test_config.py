from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from passionsr_cli import methods
from passionsr_cli.bits import Bits
from passionsr_cli.calibration.bits import completed, settings_for
from passionsr_cli.config import PUBLISHED_EIGHT_BIT_LAYERS, CalibrationSettings, UpscaleSettings
from passionsr_cli.description import IMAGE_LAYERS
from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.layering import (
    preset_names,
    presets,
    settings_from,
    validate,
)
from passionsr_cli.retiming.settings import RetrainingSettings
from passionsr_cli.system.paths import configs_folder
from passionsr_cli.training.settings import DistillationSettings, TrainingSettings


def _of(folder: str) -> list[str]:
    return [name for name, path in presets().items() if path.parent.name == folder]


RETRAINING, DISTILLATION = ["retrain"], ["distil"]
TRAINING = [name for name in _of("train") if name not in RETRAINING + DISTILLATION]
UPSCALING, CALIBRATION = _of("upscale"), _of("calibrate")


def test_a_presets_name_is_its_own() -> None:
    files = [path.stem for path in configs_folder().glob("*/*.yaml")]
    assert len(files) == len(set(files))
    assert set(files) > set(preset_names())
    assert {"exact", "w6a6", "train-mini"} <= set(preset_names())


@pytest.mark.parametrize("preset", UPSCALING)
def test_upscale_presets_are_valid(preset: str) -> None:
    assert settings_from(preset, UpscaleSettings) != UpscaleSettings()


@pytest.mark.parametrize("preset", RETRAINING)
def test_retraining_presets_are_valid(preset: str) -> None:
    settings = settings_from(preset, RetrainingSettings, {"model": "mini", "timestep": 49})
    assert settings.stages


@pytest.mark.parametrize("preset", DISTILLATION)
def test_distillation_presets_are_valid(preset: str) -> None:
    assert settings_from(preset, DistillationSettings, {"model": "mini"}).width < 1


@pytest.mark.parametrize("preset", CALIBRATION)
def test_calibration_presets_are_valid(preset: str) -> None:
    settings = settings_from(preset, CalibrationSettings)
    assert methods.build(settings).stages
    if preset.startswith("w"):
        bits, _, part = preset.partition("-")
        assert str(settings.unet) == bits
        assert str(settings.vae) == ("fp" if part == "unet" else bits)
        # Exceptions are those a free combination gets too.
        assert settings.eight_bit_layers == CalibrationSettings().eight_bit_layers


@pytest.mark.parametrize("bits", ["w8a8", "8", "w6a6", "w5a5", "w4a8", "w4a6", "w4a4", "w2a2"])
def test_what_carries_the_image_stays_in_floating_point_unless_it_is_said(bits: str) -> None:
    assert settings_for(bits, None, {}).float_layers == IMAGE_LAYERS
    assert settings_for(bits, "published-exceptions", {}).float_layers == ()
    # A budget decides that, too.
    assert settings_for(None, None, {"budget": "7MB"}).float_layers == ()


def test_released_checkpoints_have_fewer_exceptions() -> None:
    published = settings_from("published-exceptions", CalibrationSettings).eight_bit_layers
    assert published == PUBLISHED_EIGHT_BIT_LAYERS
    assert set(published) < set(CalibrationSettings().eight_bit_layers)


def test_bits_are_read() -> None:
    assert Bits.parse("w6a8") == Bits.parse("W6A8") == Bits(6, 8)
    assert Bits.parse("w4a16") == Bits(4, 16)
    assert Bits.parse("fp") == Bits.parse("w16a16") == Bits(16, 16)
    settings = CalibrationSettings.model_validate({"unet": "W4A8", "vae": "FP"})
    assert (settings.unet.weight, settings.unet.activation, settings.vae.floating) == (4, 8, True)
    dumped = settings.model_dump(mode="json")
    assert (dumped["unet"], dumped["vae"]) == ("w4a8", "fp")
    assert CalibrationSettings.model_validate(dumped) == settings


@pytest.mark.parametrize("text", ["w9a1", "8x8", "w1a8", "w12a8", "w8a8x", "w8", ""])
def test_malformed_bits_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"unet: '{text}' is no bit width; write w6a6"):
        settings_from(None, CalibrationSettings, {"unet": text})


def test_quantizing_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would be quantized"):
        settings_from(None, CalibrationSettings, {"unet": "fp", "vae": "w16a16"})


def test_checkpoints_are_named_after_what_they_are() -> None:
    settings = CalibrationSettings(unet="w4a8", vae="w4a8", method="maxmin")
    assert settings.default_name() == "mini-w4a8-maxmin"
    settings = CalibrationSettings(model="folder/mine", unet="w6a6", vae="w8a8")
    assert settings.default_name() == "mine-unet-w6a6-vae-w8a8-passionsr"


@pytest.mark.parametrize("preset", TRAINING)
def test_training_presets_are_valid(preset: str) -> None:
    assert settings_from(preset, TrainingSettings).stages


@pytest.mark.parametrize(
    ("text", "options", "left"),
    [
        ("width: 200\nfit: contain", {"scale": 2.0}, {"scale": 2.0}),
        ("scale: 2", {"height": 90}, {"height": 90}),
        ("width: 200", {"height": 90}, {"width": 200, "height": 90}),
        ("overwrite: true", {"skip_existing": True}, {"skip_existing": True}),
    ],
)
def test_an_option_takes_what_it_excludes_out_of_the_file(
    tmp_path: Path, text: str, options: dict[str, object], left: dict[str, object]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert settings_from(str(path), UpscaleSettings, options) == UpscaleSettings(**left)


def test_options_stand_above_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("tile: 256\ncolor_fix: adain\n")
    found = settings_from(str(path), UpscaleSettings, {"tile": 128, "device": None})
    assert (found.tile, found.color_fix, found.device) == (128, "adain", "auto")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiel: 256", "unknown key 'tiel'; did you mean 'tile'"),
        ("zzz: 1", "unknown key 'zzz'; known are model, checkpoint, output"),
        ("tile: -5", "tile: '-5' is no size; write auto, or pixels"),
        ("precision: int3", "precision: .*'auto', 'fp32', 'bf16' or 'fp16'"),
        ("- tile", "must hold 'key: value' lines"),
        ("overlap: 8\ntile: [1", "is not YAML: expected ',' or ']', .* in line 2$"),
        ("tile: \0", "is not YAML: unacceptable character"),
        ("tile: 2020-99-99", "is not YAML: month must be in 1..12"),
        ("tile: " + "9" * 5000, "is not YAML: Exceeds the limit"),
        ("tile: " + "[" * 2000, "nested too deeply"),
        ('output: "\\ud800"', "is not YAML: .*surrogates not allowed"),
    ],
)
def test_wrong_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        settings_from(str(path), UpscaleSettings)
    assert len(str(caught.value).splitlines()) == 1


def test_nested_keys_get_their_own_suggestions(tmp_path: Path) -> None:
    preset = settings_from("train-mini", TrainingSettings).model_dump(mode="json")
    preset["stages"][0]["batchsize"] = 3
    with pytest.raises(ConfigError, match=r"'stages\.0\.batchsize'; did you mean 'batch_size'"):
        validate(preset, TrainingSettings, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_px": 100}, "crop_px must be a multiple of 16, found 100"),
        ({"name": "faithful"}, "stages need different names"),
        ({"learns": []}, "at least 1 item"),
        ({"natural": {"niqe": 1.0}}, "unknown key 'stages.1.natural.niqe'"),
        ({"learning_rate": -1e-3}, "learning_rate: found '-0.001', expected greater than 0"),
        ({"final_learning_rate": -1.0}, "final_learning_rate: found '-1.0', expected greater"),
        ({"ema_decay": 1.0}, "ema_decay: found '1.0', expected less than 1"),
        ({"gradient_clip": -1.0}, "gradient_clip: found '-1.0', expected greater than 0"),
    ],
)
def test_stages_must_fit_the_model(change: dict[str, object], message: str) -> None:
    preset = settings_from("train-mini", TrainingSettings).model_dump(mode="json")
    first = preset["stages"][0]
    preset["stages"] = [first, {**first, "name": "more", **change}]
    with pytest.raises(ConfigError, match=message):
        validate(preset, TrainingSettings, "here")


def test_a_timestep_must_be_in_the_schedule() -> None:
    preset = settings_from("train-mini", TrainingSettings).model_dump(mode="json")
    preset["model"]["timestep"] = 1000
    with pytest.raises(ConfigError, match="timestep must be below 1000"):
        validate(preset, TrainingSettings, "here")


def test_folders_may_be_given_as_paths(tmp_path: Path) -> None:
    settings = UpscaleSettings(model=tmp_path, checkpoint=tmp_path / "c")  # type: ignore[arg-type]
    assert (settings.model, settings.checkpoint) == (str(tmp_path), str(tmp_path / "c"))
    rows = EvaluationSettings(dataset=tmp_path, checkpoint=("a", tmp_path))  # type: ignore[arg-type]
    assert (rows.dataset, rows.checkpoint) == (str(tmp_path), ("a", str(tmp_path)))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_impossible_names_are_those_of_no_file(name: str) -> None:
    with pytest.raises(ConfigError, match="neither a file nor a preset; known are"):
        settings_from(name, UpscaleSettings)


def test_a_missing_configuration_lists_presets() -> None:
    with pytest.raises(ConfigError, match=r"neither a file nor a preset; known are.*exact.*…"):
        settings_from("nonsense", UpscaleSettings)


def test_later_configurations_and_options_win(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("unet: w4a4\nmethod_settings: {passionsr: {separate: true}}")
    presets = ["w8a8", "ablation-lbq-let", str(path)]
    settings = settings_from(presets, CalibrationSettings, {"crops": 3})
    assert (settings.unet, settings.vae, settings.crops) == (Bits(4, 4), Bits(8, 8), 3)
    own = settings.method_settings["passionsr"]
    # What only the preset says stays.
    assert own == {"distributed": False, "separate": True}


@pytest.mark.parametrize(
    ("bits", "options"), [("w3a4", {}), ("w8a8", {"vae": "w4a6"}), (None, {"unet": "w2a4"})]
)
def test_free_widths_of_few_bits_start_as_their_presets(
    bits: str | None, options: dict[str, str]
) -> None:
    preset = settings_for("w4a4", None, {}).method_settings
    assert settings_for(bits, None, options).method_settings == preset
    own = {"method_settings": {"passionsr": {"bounds_start": "extremes"}}}
    told = settings_for(bits, [own], options).method_settings["passionsr"]
    assert told == {**preset["passionsr"], "bounds_start": "extremes"}
    assert settings_for("w5a5", None, {"unet": "fp"}).method_settings == {}


@pytest.mark.parametrize(
    ("bits", "config", "options"),
    [
        (None, None, {"budget": "7MB"}),
        (None, None, {"layer_bits": {"unet.conv_in": "w8a8", "unet.conv_out": "w3a8"}}),
        ("w8a8", None, {"layer_bits": {"unet.conv_in": "w4a8"}}),
        (None, [{"layer_bits": {"unet.mid_block.attentions.0": "a4"}}], {}),
        (None, [{"unet": "w3a5"}], {}),
        ("w6a6", [{"vae": "w4a4"}], {}),
    ],
)
def test_widths_of_few_bits_start_as_their_presets_wherever_they_are_given(
    bits: str | None, config: list[str | dict[str, Any]] | None, options: dict[str, Any]
) -> None:
    preset = settings_for("w4a4", None, {}).method_settings
    assert settings_for(bits, config, options).method_settings == preset
    own = {"method_settings": {"passionsr": {"component": {"steps": 7, "learning_rate": 1.0}}}}
    told = settings_for(bits, [*(config or ()), own], options).method_settings["passionsr"]
    assert told == {**preset["passionsr"], **own["method_settings"]["passionsr"]}


@pytest.mark.parametrize("preset", [name for name in CALIBRATION if name.startswith("w")])
def test_a_presets_widths_given_otherwise_start_as_the_preset(preset: str) -> None:
    expected = settings_from(preset, CalibrationSettings)
    widths = {"unet": str(expected.unet), "vae": str(expected.vae)}
    for found in (
        settings_for(preset, None, {}),
        settings_for(None, preset, {}),
        settings_for(None, [dict(widths)], {}),
        settings_for(None, None, dict(widths)),
    ):
        assert found.method_settings == expected.method_settings
    assert settings_for(preset, None, {}) == expected


def test_widths_that_others_replace_do_not_count() -> None:
    assert settings_for("w3a5", None, {"unet": "w8a8", "vae": "w8a8"}).method_settings == {}


@pytest.mark.parametrize(
    "said",
    [
        {"unet": "w4a4", "vae": "w4a4"},
        {"unet": "w2a4", "method_settings": {"passionsr": {"separate": True}}},
        {"layer_bits": {"unet.conv_in": "w4a8"}},
        {"budget": "7MB"},
        {"budget": "7MB", "float_layers": ("unet.conv_in",)},
        {"crops": 3},
    ],
)
def test_a_programs_settings_are_completed_as_the_commands(said: dict[str, Any]) -> None:
    of_command = settings_for(None, [said], {"budget": said.get("budget")})
    found = completed(CalibrationSettings.model_validate(said))
    assert found == of_command
    assert completed(found) == found


@pytest.mark.parametrize("options", [{}, {"budget": "7MB"}])
def test_settings_that_say_everything_stay(options: dict[str, Any]) -> None:
    """Also those that a file holds, and bits with a budget, which are not the preset's."""
    for bits in ("w8a8", "w4a4"):
        whole = settings_for(bits, None, options)
        assert completed(whole) == whole
    plain = CalibrationSettings.model_validate({"unet": "w4a4", "vae": "w4a4"}).model_dump()
    assert completed(CalibrationSettings.model_validate(plain)).method_settings == {}


def test_capitals_name_the_same_preset() -> None:
    assert settings_for("W4A4", None, {}) == settings_for("w4a4", None, {})
    assert settings_for("W4A4", None, {}).method_settings


def test_a_budget_is_the_same_wherever_it_is_given(tmp_path: Path) -> None:
    file = tmp_path / "budget.yaml"
    file.write_text("budget: 40%\n")
    option = settings_for(None, None, {"budget": "40%"})
    assert option.float_layers == ()
    assert settings_for(None, str(file), {}) == option
    assert completed(settings_from(str(file), CalibrationSettings)) == option
    # Beside bits it is what they are.
    both = settings_for("w4a4", None, {"budget": "40%"})
    given = {"unet": "w4a4", "vae": "w4a4", "budget": "40%"}
    assert completed(CalibrationSettings.model_validate(given)).float_layers == both.float_layers
