"""Settings of `--bits`: a preset of that name, or any bit widths. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from passionsr_cli.config import Bits, CalibrationSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.layering import preset_names, settings_from

MIXED = "mixed"
# Widths that are given freely start and learn as this preset does if one is as narrow as its own.
NARROW, NARROW_BITS = "w4a4", 4


def settings_for(
    bits: str | None,
    config: str | Sequence[str | dict[str, Any]] | None,
    options: dict[str, Any],
) -> CalibrationSettings:
    """Settings from `bits`, then presets, files or values, later ones on top, then the options.

    `bits` is a preset's name, or bit widths for the UNet and the VAE alike, and with a budget by
    default the preset of mixed precision. Widths of at most 4 bits start and learn as in the
    presets that have them. Options that are None were not given.
    """
    above = [config] if isinstance(config, str) else list(config or ())
    below: list[str | dict[str, Any]] = []
    if bits is None and options.get("budget") is not None:
        bits = MIXED
    if bits is not None:
        preset = bits.lower()
        below = [preset if preset in preset_names() else _alike(bits)]
    free = [below[0]["unet"]] if below and isinstance(below[0], dict) else []
    if any(_is_narrow(each) for each in (*free, options.get("unet"), options.get("vae"))):
        starts = settings_from(NARROW, CalibrationSettings).method_settings
        below = [{"method_settings": starts}, *below]
    return settings_from([*below, *above], CalibrationSettings, options)


def _alike(bits: str) -> dict[str, Any]:
    """The same bits for UNet and VAE."""
    try:
        parsed = Bits.parse(bits)
    except ValueError as error:
        raise ConfigError(f"--bits: {error}, or a preset such as w6a6-unet") from None
    return {"unet": parsed, "vae": parsed}


def _is_narrow(bits: object) -> bool:
    """True of widths as narrow as those of `NARROW`; what is no width is refused elsewhere."""
    try:
        parsed = Bits.parse(bits)
    except ValueError:
        return False
    return min(parsed.weight, parsed.activation) <= NARROW_BITS
