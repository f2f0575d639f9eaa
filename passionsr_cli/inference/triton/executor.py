"""Triton: quantized layers on integer kernels, on NVIDIA GPUs."""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
from accelerate import Accelerator

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.errors import DeviceError
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.inference.triton.layers import IntegerLayer, obstacle
from passionsr_cli.inference.triton.resnets import fuse_resnets
from passionsr_cli.layers.convert import frozen_layers
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.models.one_step import OneStepModel

# Triton multiplies bytes on matrix units from there on.
FIRST_CAPABILITY = (8, 0)


class TritonExecutor(TorchExecutor):
    """Runs a `OneStepModel` whose quantized layers become integer kernels where there are such.

    All else is torch's in the accelerator's precision; what has no kernel is simulated.
    """

    backend = "triton"

    def __init__(self, model: OneStepModel, accelerator: Accelerator) -> None:
        layers = frozen_layers(model).items()
        obstacles = {n: obstacle(x) for n, x in layers if isinstance(x, FrozenLayer)}
        self._integer = tuple(name for name, reason in obstacles.items() if not reason)
        self._obstacles = obstacles
        for name in self._integer:
            # Each goes as soon as its successor is there: memory never holds all twice.
            layer = model.get_submodule(name)
            assert isinstance(layer, FrozenLayer)
            model.set_submodule(name, IntegerLayer(layer))
        fuse_resnets(model)
        super().__init__(model, accelerator)

    def kernels(self) -> KernelReport:
        """Kernels of every layer: one that has an integer kernel never runs on another."""
        left = super().kernels()
        floating = tuple((name, f"{self._obstacles[name]}, {how}") for name, how in left.floating)
        return replace(left, integer=self._integer, floating=floating)


def check_device(device: str) -> None:
    """Refuse a device of `choose_device` that the kernels do not run on.

    Triton's interpreter (TRITON_INTERPRET=1) runs them anywhere, to look at what they compute.
    """
    if triton.knobs.runtime.interpret:
        return
    if not device.startswith("cuda") or torch.version.cuda is None:
        raise DeviceError(
            f"Triton's kernels need an NVIDIA GPU, '{device}' is none; use --backend auto"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < FIRST_CAPABILITY:
        found, needed = (".".join(map(str, each)) for each in (capability, FIRST_CAPABILITY))
        raise DeviceError(
            f"Triton's kernels need a GPU of compute capability {needed}, '{device}' has {found}; "
            "use --backend torch"
        )
