"""Settings of `--bits`: a preset of that name, or any bit widths. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from passionsr_cli.bits import Bits
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.errors import ConfigError
from passionsr_cli.layering import preset_names, settings_from

MIXED = "mixed"
# Widths start and learn as this preset does if one is as narrow as its own.
NARROW, NARROW_BITS = "w4a4", 4


def settings_for(
    bits: str | None,
    config: str | Sequence[str | dict[str, Any]] | None,
    options: dict[str, Any],
) -> CalibrationSettings:
    """Settings from `bits`, then presets, files or values, later ones on top, then the options.

    `bits` is a preset's name, or bit widths for the UNet and the VAE alike; where nobody gives
    bits, a budget has the preset of mixed precision. Widths of at most 4 bits, wherever they are
    given, also those of single layers, start and learn as in the presets that have them, unless
    `method_settings` say otherwise. Options that are None were not given. Every field of the
    result counts as set.
    """
    above = [config] if isinstance(config, str) else list(config or ())
    below: list[str | dict[str, Any]] = []
    if bits is not None:
        preset = bits.lower()
        below = [preset if preset in preset_names() else _alike(bits)]
    settings = settings_from([*below, *above], CalibrationSettings, options)
    given = bits is not None or not settings.model_fields_set.isdisjoint(("unet", "vae"))
    if settings.budget is not None and not given:
        below = [MIXED]
        settings = settings_from([*below, *above], CalibrationSettings, options)
    if _is_narrow(settings):
        starts = settings_from(NARROW, CalibrationSettings).method_settings
        below = [{"method_settings": starts}, *below]
        settings = settings_from([*below, *above], CalibrationSettings, options)
    return settings.model_copy(update=dict(settings))


def completed(settings: CalibrationSettings) -> CalibrationSettings:
    """Settings of a program, what it left out as `settings_for` has it for such bits or a budget.

    Those that say everything stay as they are: `settings_for` gives such, and files hold such.
    """
    if settings.model_fields_set == CalibrationSettings.model_fields.keys():
        return settings
    said = {name: getattr(settings, name) for name in settings.model_fields_set}
    return settings_for(None, [said], {})


def _alike(bits: str) -> dict[str, Any]:
    """The same bits for UNet and VAE."""
    try:
        parsed = Bits.parse(bits)
    except ValueError as error:
        raise ConfigError(f"--bits: {error}, or a preset such as w6a6-unet") from None
    return {"unet": parsed, "vae": parsed}


def _is_narrow(settings: CalibrationSettings) -> bool:
    """Tell whether a component, or a layer of a plan, is as narrow as those of `NARROW`."""
    of_components = [bits for bits in (settings.unet, settings.vae) if _may_be_narrow(bits)]
    each = (*of_components, *settings.layer_bits.values())
    return any(min(bits.weight, bits.activation) <= NARROW_BITS for bits in each)


def _may_be_narrow(bits: Bits) -> bool:
    """False of the widths of a preset that starts and learns as at 8 bits, as w4a8 does."""
    name = str(bits)
    if name not in preset_names():
        return True
    return bool(settings_from(name, CalibrationSettings).method_settings)
