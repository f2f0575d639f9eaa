"""Budgets of mixed precision, and bit widths of single layers, as people write them.

Imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
GRAMMAR = (
    "write a size such as 7MB (of the checkpoint), 6bit (of a weight, on average), 40% (of the "
    "operations with an operand of more than 4 bits), or several with commas: 7MB,40%"
)


@dataclass(frozen=True)
class Budget:
    """Budget of a calibrated model; None sets no limit.

    `bytes` are of the checkpoint's tensors on disk, `weight_bits` the mean over all quantized
    weights, `wide_share` the share, in [0, 1], of the quantized operations of which an operand has
    more than 4 bits: integer units multiply 4 bits by 4 bits, or else 8 by 8.
    """

    bytes: int | None = None
    weight_bits: float | None = None
    wide_share: float | None = None

    def __str__(self) -> str:
        """As it is written: '7MB,40%'."""
        parts = []
        if self.bytes is not None:
            parts.append(f"{self.bytes / 10**6:.12g}MB")
        if self.weight_bits is not None:
            parts.append(f"{self.weight_bits:.12g}bit")
        if self.wide_share is not None:
            parts.append(f"{100 * self.wide_share:.12g}%")
        return ",".join(parts)

    @property
    def name(self) -> str:
        """For names of files: '7MB-40p'."""
        return str(self).replace(",", "-").replace("%", "p")


def parse_budget(text: str) -> Budget:
    """The budget that a text such as '7MB', '6bit', '40%' or '7MB,40%' means.

    Raises `ValueError` that says how one is written.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(kB|MB|GB|bit|%)\s*", part)
        if found is None:
            raise ValueError(f"'{part.strip()}' is no budget; {GRAMMAR}")
        number, unit = float(found[1]), found[2]
        if number == 0 and unit != "%":
            raise ValueError(f"'{part.strip()}' leaves nothing; {GRAMMAR}")
        kind = {"bit": "weight_bits", "%": "wide_share"}.get(unit, "bytes")
        if kind in limits:
            raise ValueError(f"'{text}' limits the same twice; {GRAMMAR}")
        if unit == "%" and number > 100:
            raise ValueError(f"'{part.strip()}' is more than all operations; {GRAMMAR}")
        limits[kind] = number / 100 if unit == "%" else number * UNITS.get(unit, 1)
    size = limits.get("bytes")
    return Budget(
        None if size is None else int(size), limits.get("weight_bits"), limits.get("wide_share")
    )


def _given(value: object) -> object:
    return parse_budget(value) if isinstance(value, str) else value


BudgetText = Annotated[Budget, BeforeValidator(_given), PlainSerializer(str)]
