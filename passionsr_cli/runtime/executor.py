"""What an executor is: the two halves of a one-step model, run on tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from passionsr_cli.registry import ModelDescription


@dataclass(frozen=True)
class Ran:
    """How the quantized layers of a checkpoint were executed, by name.

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
        """Whether integer kernels computed every quantized convolution and linear layer."""
        return bool(self.integer) and not self.floating

    def as_dict(self) -> dict[str, Any]:
        """For JSON: how many layers, and by name what fell back and what attentions did."""
        return {
            "integer": len(self.integer),
            "folded": len(self.folded),
            "floating": dict(self.floating),
            "attentions": dict(self.attentions),
        }


def ran_from(values: dict[str, Any]) -> Ran:
    """The `Ran` that `dataclasses.asdict` took apart, also after a way through JSON."""
    pairs = {
        key: tuple((str(name), str(how)) for name, how in values[key])
        for key in ("floating", "attentions")
    }
    return Ran(tuple(values["integer"]), tuple(values["folded"]), **pairs)


def is_integer_kernel(kernel: str) -> bool:
    """Whether OpenVINO's name of a kernel, such as brgconv_avx512_I8, says 8-bit integers."""
    return kernel.lower().endswith(("_i8", "_u8"))


class Executor(Protocol):
    """Runs one model on one machine. All tensors that go in and out are float32 on the CPU."""

    description: ModelDescription
    backend: str
    device: str
    precision: str

    def restore_latent(self, upscaled: Tensor) -> Tensor:
        """z_H (B, C, H/f, W/f) of upscaled LR tiles (B, 3, H, W) in [0, 1]."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Tiles (B, 3, H, W), close to [0, 1] but not clamped, of their z_H."""
        ...

    def ran(self) -> Ran:
        """What really ran, as far as something ran already."""
        ...

    def peak_memory_bytes(self) -> int:
        """The most memory in use at any time: the device's, or the process's on a CPU."""
        ...
