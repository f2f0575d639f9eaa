"""Reports of the kernels that ran the quantized layers of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KernelReport:
    """Kernels that executed the quantized layers of a checkpoint, by name.

    Convolutions and linear layers: `integer` ran on integer kernels, `folded` were constants,
    computed once, and `floating` fell back to floating point, each with the reason. `attentions`
    says of each which kernel computed its products. All are empty for a full-precision model.
    """

    integer: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    floating: tuple[tuple[str, str], ...] = ()
    attentions: tuple[tuple[str, str], ...] = ()

    @property
    def on_integers(self) -> bool:
        """True if integer kernels computed every quantized convolution and linear layer."""
        return bool(self.integer) and not self.floating

    def as_dict(self) -> dict[str, Any]:
        """For JSON: how many layers, and by name what fell back and what attentions did."""
        return {
            "integer": len(self.integer),
            "folded": len(self.folded),
            "floating": dict(self.floating),
            "attentions": dict(self.attentions),
        }


def kernel_report(values: dict[str, Any]) -> KernelReport:
    """The `KernelReport` that `dataclasses.asdict` took apart, also after a way through JSON."""
    pairs = {
        key: tuple((str(name), str(how)) for name, how in values[key])
        for key in ("floating", "attentions")
    }
    return KernelReport(tuple(values["integer"]), tuple(values["folded"]), **pairs)


def is_integer_kernel(kernel: str) -> bool:
    """Tell whether OpenVINO's name of a kernel, such as brgconv_avx512_I8, says 8-bit integers."""
    return kernel.lower().endswith(("_i8", "_u8"))
