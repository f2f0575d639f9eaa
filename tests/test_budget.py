from __future__ import annotations

import pytest

from passionsr_cli.bits import Bits
from passionsr_cli.budget import Budget, parse_budget
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.layering import settings_from


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("7MB", Budget(bytes=7_000_000)),
        ("912.5kB", Budget(bytes=912_500)),
        ("1.2 GB", Budget(bytes=1_200_000_000)),
        ("6bit", Budget(weight_bits=6)),
        ("40%", Budget(wide_share=0.4)),
        ("7MB, 40%", Budget(bytes=7_000_000, wide_share=0.4)),
        ("0%,4.5bit", Budget(weight_bits=4.5, wide_share=0)),
    ],
)
def test_a_budget_means_what_it_says(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget
    assert parse_budget(str(budget)) == budget


@pytest.mark.parametrize("text", ["7", "7mb", "-1MB", "6bits", "101%", "7MB,8MB", "", "7MB,"])
def test_what_is_no_budget_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"budget: .*write a size such as 7MB .*6bit .*40%"):
        settings_from(None, CalibrationSettings, {"budget": text})


def test_settings_hold_a_budget_and_write_it_as_it_was_given() -> None:
    settings = settings_from(None, CalibrationSettings, {"budget": "7MB,40%"})
    assert settings.budget == Budget(7_000_000, None, 0.4)
    dumped = settings.model_dump(mode="json")
    assert dumped["budget"] == "7MB,40%"
    assert CalibrationSettings.model_validate(dumped) == settings
    assert settings.default_name() == "mini-7MB-40p-passionsr"


@pytest.mark.parametrize("bits", ["w4", "w4a4r", "w9a4", "w4a1", "a", "44", "w4a4b", "w1a8"])
def test_a_layers_bits_are_checked(bits: str) -> None:
    with pytest.raises(ConfigError, match=r"layer_bits\.unet\.conv_in"):
        settings_from(None, CalibrationSettings, {"layer_bits": {"unet.conv_in": bits}})


def test_a_layers_bits_may_have_a_rank_and_those_of_a_component_have_none() -> None:
    assert Bits.parse("w4a6r16") == Bits.parse("W4A6R16") == Bits(4, 6, 16)
    for text in ("w4a6r16", "w4a6r0", "w4a6"):
        assert str(Bits.parse(text)) == text
    with pytest.raises(ConfigError, match="r16 stands in layer_bits"):
        settings_from(None, CalibrationSettings, {"unet": "w4a4r16"})
