"""What `--bits` means: a preset of that name, or any bit widths. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from passionsr_cli.config import CalibrationSettings, preset_names, settings_from


def settings_for(
    bits: str | None, config: str | Sequence[str] | None, options: dict[str, Any]
) -> CalibrationSettings:
    """Settings from the preset that `bits` names, if one does, then presets or files, later ones
    on top, then the options.

    Options that are None were not given.
    """
    presets = [bits] if bits in preset_names() else []
    # A preset such as w8a8-unet says itself which parts it quantizes.
    everywhere = bits if bits is not None and (not presets or "-" not in bits) else None
    parts = {part: options.get(part) or everywhere for part in ("unet", "vae")}
    above = [config] if isinstance(config, str) else list(config or ())
    configs = [*(preset for preset in presets if preset), *above]
    return settings_from(configs, CalibrationSettings, {**options, **parts})
