"""Bit widths as people write them: w6a6, w4a8, fp. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import core_schema

FEWEST_BITS, MOST_BITS, FLOAT_BITS = 2, 8, 16


@dataclass(frozen=True)
class Bits:
    """Bit widths of a component's weights and of its activations, 16 being floating point.

    Written w6a6, in small letters or capitals, fp for w16a16, a6 for w16a6, or 8 for w8a8.
    `rank` is that of a single layer's 16-bit branch, as in w4a4r16; None: as the method says.
    """

    weight: int
    activation: int
    rank: int | None = None

    @classmethod
    def parse(cls, value: object) -> Bits:
        """The bits that a text names. Raises `ValueError` with what can be written."""
        if isinstance(value, Bits):
            return value
        text = str(value).lower()
        text = "a16" if text == "fp" else text
        if alike := re.fullmatch(r"(?:int)?(\d+)(?:[ -]?bits?)?", text):
            text = f"w{alike[1]}a{alike[1]}"
        found = re.fullmatch(r"(?:w(\d+))?a(\d+)(?:r(\d+))?", text)
        pair = (int(found[1] or FLOAT_BITS), int(found[2])) if found else (0, 0)
        if not all(FEWEST_BITS <= bits <= MOST_BITS or bits == FLOAT_BITS for bits in pair):
            raise ValueError(
                f"'{value}' is no bit width; write w6a6 for 6-bit weights and activations "
                f"({FEWEST_BITS} to {MOST_BITS}, or {FLOAT_BITS} for floating point), or fp"
            )
        return cls(*pair, int(found[3]) if found and found[3] else None)

    def __str__(self) -> str:
        return "fp" if self.floating else f"w{self.weight}a{self.activation}{self.rank_name}"

    @property
    def rank_name(self) -> str:
        """'r16', or nothing where the method says the rank."""
        return "" if self.rank is None else f"r{self.rank}"

    @property
    def floating(self) -> bool:
        """True if nothing is quantized."""
        return self.weight == self.activation == FLOAT_BITS

    def at_least(self, bits: int) -> Bits:
        """These bits, but no fewer than so many."""
        return Bits(max(self.weight, bits), max(self.activation, bits))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


FLOATING, EIGHT_BITS = Bits(FLOAT_BITS, FLOAT_BITS), Bits(MOST_BITS, MOST_BITS)


def bits_name(unet: Bits, vae: Bits) -> str:
    """'w6a6', or 'unet-w6a6-vae-w8a8' where the components differ."""
    return str(unet) if unet == vae else f"unet-{unet}-vae-{vae}"
