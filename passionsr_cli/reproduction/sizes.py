"""Size and work of a model with parts of it quantized, from its architecture alone."""

from __future__ import annotations

from collections.abc import Sequence

from passionsr_cli.bits import FLOAT_BITS
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.models.costs import FULL_BITS, ComponentCosts, compressed
from passionsr_cli.reproduction.definitions import SIZE


def sizes(
    settings: CalibrationSettings | None, costs: Sequence[ComponentCosts]
) -> dict[str, float]:
    """Parameters (10⁶, as 32-bit equivalents) and operations (10⁹) at the bits of these settings,
    nothing where layers have bits of their own; of the model itself, where there are none, also
    the size (10⁶ bytes)."""
    bits: dict[str, tuple[int, int]] = {}
    if settings is not None:
        if settings.layer_bits:
            return {}
        for component, own in (("unet", settings.unet), ("vae", settings.vae)):
            bits[component] = (_stored(own.weight), _stored(own.activation))
    parameters, operations = compressed(costs, bits)
    found = {"parameters_m": parameters / 1e6, "operations_g": operations / 1e9}
    return found if settings is not None else {**found, SIZE: FULL_BITS / 8 * parameters / 1e6}


def _stored(bits: int) -> int:
    """Bits that are stored: what stays in floating point stays at full precision."""
    return FULL_BITS if bits == FLOAT_BITS else bits
