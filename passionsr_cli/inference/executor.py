"""Executors: the two halves of a one-step model, run on tiles."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.description import ModelDescription
from passionsr_cli.pixels.arrays import Array


class Executor(Protocol):
    """Runs one model on one machine. What goes in and out are float32 arrays."""

    description: ModelDescription
    backend: str
    device: str
    precision: str

    def restore_latent(self, upscaled: Array, realism: float | None = None) -> Array:
        """z_H (B, C, H/f, W/f) of upscaled LR tiles (B, 3, H, W) in [0, 1].

        `realism` in [0, 1] is for models with a dial; None: their default.
        """
        ...

    def decode(self, latent: Array) -> Array:
        """Tiles (B, 3, H, W), close to [0, 1] but not clamped, of their z_H."""
        ...

    def kernels(self) -> KernelReport:
        """Kernels that really ran, as far as something ran already."""
        ...

    def peak_memory_bytes(self) -> int:
        """The most memory in use at any time: the device's, or the process's on a CPU."""
        ...


@runtime_checkable
class Shareable(Protocol):
    """An executor that has another form, for several tiles at once."""

    def shared(self, at_once: int) -> Executor:
        """The same model for so many threads, each of which computes a tile on its own."""
        ...


@runtime_checkable
class Releasing(Protocol):
    """An executor that can be without half of a model for a while."""

    def release_restoring(self) -> None:
        """Give back the memory of all that `decode` does not need; `restore_latent` gets it anew
        when it is called again."""
        ...
