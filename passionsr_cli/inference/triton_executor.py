"""Triton: quantized layers on integer kernels, on NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import triton

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.errors import DeviceError
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.layers.convert import Frozen, frozen_layers
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.devices import Device
from passionsr_cli.triton_kernels.attention import IntegerAttention, attention_obstacle
from passionsr_cli.triton_kernels.cuda_graphs import Recordings
from passionsr_cli.triton_kernels.feed_forwards import fuse_feed_forwards
from passionsr_cli.triton_kernels.layers import IntegerLayer, obstacle
from passionsr_cli.triton_kernels.norms import fuse_norms
from passionsr_cli.triton_kernels.resnets import fuse_resnets

# Triton multiplies bytes on matrix units from there on.
FIRST_CAPABILITY = (8, 0)
# Of both products of an attention, as reports of kernels have it.
KERNEL_OF_ATTENTIONS = "triton_i8"


class TritonExecutor(TorchExecutor):
    """Runs a `OneStepModel` whose quantized layers and attentions become integer kernels where
    there are such.

    All else is torch's in the device's precision; what has no kernel is simulated.
    """

    backend = "triton"

    def __init__(self, model: OneStepModel, device: Device, reporter: Reporter = SILENT) -> None:
        layers = frozen_layers(model)
        self._obstacles = {name: _obstacle(layer) for name, layer in layers.items()}
        self._integer: list[str] = []
        self._integer_attentions: list[str] = []
        for name in list(layers):
            if self._obstacles[name]:
                continue
            # Each goes as soon as its successor is there: memory never holds all twice.
            layer = layers.pop(name)
            if isinstance(layer, FrozenLayer):
                model.set_submodule(name, IntegerLayer(layer))
                self._integer.append(name)
            else:
                attention: Any = model.get_submodule(name)
                attention.set_processor(IntegerAttention(layer, attention.inner_dim))
                self._integer_attentions.append(name)
        fuse_resnets(model)
        fuse_norms(model)
        fuse_feed_forwards(model)
        super().__init__(model, device)
        # What is simulated asks the GPU for its grids, which no graph may do.
        recorded = self._device.type == "cuda" and not any(self._obstacles.values())
        self._recordings = Recordings(reporter) if recorded else None

    def kernels(self) -> KernelReport:
        """Kernels of every layer: one that has an integer kernel never runs on another."""
        left = super().kernels()
        return KernelReport(
            integer=tuple(self._integer),
            floating=tuple(self._with_reason(left.floating)),
            attentions=(
                *((name, KERNEL_OF_ATTENTIONS) for name in self._integer_attentions),
                *self._with_reason(
                    each for each in left.attentions if each[0] not in self._integer_attentions
                ),
            ),
        )

    def _with_reason(self, layers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        return ((name, f"{self._obstacles[name]}, {how}") for name, how in layers)


def _obstacle(layer: Frozen) -> str:
    return obstacle(layer) if isinstance(layer, FrozenLayer) else attention_obstacle(layer)


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
    check_start()


def check_start() -> None:
    """Raise `DeviceError` where Triton cannot start on the GPU that torch uses.

    It compiles its own driver first.
    """
    try:
        _ = triton.runtime.driver.active.utils
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeviceError(
            f"Triton does not start ({line}), which takes a C compiler and Python's headers; "
            "install gcc and python3-dev, or use --backend torch"
        ) from error
