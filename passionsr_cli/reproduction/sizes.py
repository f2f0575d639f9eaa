"""Size and work of a model with parts of it quantized, from its architecture alone."""

from __future__ import annotations

from collections.abc import Sequence

from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.config import FLOAT_BITS, parse_bits
from passionsr_cli.models.costs import FULL_BITS, PartCosts, compressed
from passionsr_cli.reproduction.definitions import FULL_PRECISION, RowDefinition


def sizes(row: RowDefinition, costs: Sequence[PartCosts]) -> dict[str, float]:
    """Parameters (10⁶, as 32-bit equivalents) and operations (10⁹) at the bits of a row."""
    quantized: tuple[str, ...] = ()
    weight_bits = FULL_BITS
    if row.bits != FULL_PRECISION:
        settings = settings_for(row.bits, row.configs, {})
        bits = {part: parse_bits(getattr(settings, part))[0] for part in ("unet", "vae")}
        quantized = tuple(part for part, own in bits.items() if own != FLOAT_BITS)
        weight_bits = min(bits.values())
    left = compressed(costs, quantized, weight_bits)
    return {"parameters_m": left.parameters / 1e6, "operations_g": left.operations / 1e9}
