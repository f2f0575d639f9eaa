"""PyTorch: the definition of what a model computes, on CPU, CUDA and MPS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from passionsr_cli.conversion.kernels import KernelReport
from passionsr_cli.errors import DeviceError, TileMemoryError
from passionsr_cli.layers.convert import quantized_layers
from passionsr_cli.layers.products import QuantizedLayer
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.devices import Device
from passionsr_cli.system.memory import is_out_of_memory, peak_bytes
from passionsr_cli.triton_kernels.cuda_graphs import Recordings

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchExecutor:
    """Runs a `OneStepModel` on a device of `open_device`, under mixed precision, in channels-last
    layout unless told otherwise. `why_simulated` is the reason that reports of kernels give.

    On an NVIDIA GPU what a tile launches is recorded as a CUDA graph where it can be, if there is a
    reporter, who hears where it can't: of small models launching takes longer than computing.
    """

    backend = "torch"

    def __init__(
        self,
        model: OneStepModel,
        device: Device,
        memory_format: torch.memory_format = torch.channels_last,
        why_simulated: str = "",
        reporter: Reporter | None = None,
    ) -> None:
        self.description = model.description
        self.device, self.precision = device.name, device.precision
        self._device, self._why_simulated = torch.device(device.name), why_simulated
        # What is simulated asks the GPU for its grids, which no graph may do.
        possible = self._device.type == "cuda" and not quantized_layers(model)
        self._recordings = Recordings(reporter) if possible and reporter is not None else None
        if self.precision in _DTYPES:
            _store_weights_as(model, _DTYPES[self.precision])
        model.memory_format = memory_format
        model.to(memory_format=memory_format)
        try:
            self._model = model.eval().to(self._device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"the model does not fit in what is free of the memory of '{self.device}'; "
                "free some, or use --device cpu"
            ) from error

    def restore_latent(self, upscaled: Array, realism: float | None = None) -> Array:
        return self._computed(self._restored, upscaled, realism)

    def decode(self, latent: Array) -> Array:
        return self._computed(self._decoded, latent)

    def _restored(self, upscaled: Tensor, realism: float | None) -> Tensor:
        latent = self._model.encode(upscaled)
        return self._model.to_x0(latent, self._model.predict(latent, realism))

    def _decoded(self, latent: Tensor) -> Tensor:
        return self._model.decode(latent)

    def _computed(self, function: Callable[..., Tensor], values: Array, *constants: Any) -> Array:
        with self._as_current(), torch.inference_mode(), self._autocast(), _memory_advice():
            return _array(self._call(function, self._tensor(values), *constants))

    def _as_current(self) -> AbstractContextManager[object]:
        # CUDA graphs and Triton's kernels run on the current GPU, and each thread has its own.
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _autocast(self) -> torch.autocast:
        # What autocast keeps goes at its end, and a CUDA graph would read it later.
        dtype, device = _DTYPES.get(self.precision), self._device.type
        return torch.autocast(device, dtype, enabled=dtype is not None, cache_enabled=False)

    def _call(self, function: Callable[..., Tensor], x: Tensor, *constants: Any) -> Tensor:
        return self._launched(function, x, *constants)

    def _launched(self, function: Callable[..., Tensor], x: Tensor, *constants: Any) -> Tensor:
        """A function's result, from a recording of its launches where there is one."""
        run = self._recordings or _as_it_is
        return run(function, x, *constants)

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def kernels(self) -> KernelReport:
        """Quantized layers are simulated: their integers are computed in floating point."""
        reason = f"simulated in {self.precision}"
        if self._why_simulated:
            reason += f": {self._why_simulated}"
        layers = quantized_layers(self._model)
        weighted = [name for name, layer in layers.items() if isinstance(layer, QuantizedLayer)]
        return KernelReport(
            floating=tuple((name, reason) for name in weighted),
            attentions=tuple((name, reason) for name in layers if name not in weighted),
        )

    def peak_memory_bytes(self) -> int:
        return peak_bytes(self.device)


class CompiledExecutor(TorchExecutor):
    """The same compiled by `torch.compile`, anew for every shape of tiles: seconds to minutes."""

    def __init__(self, model: OneStepModel, device: Device, reporter: Reporter = SILENT) -> None:
        super().__init__(model, device, reporter=reporter)
        self._compiled: dict[str, Callable[..., Tensor]] = {}

    def _call(self, function: Callable[..., Tensor], x: Tensor, *constants: Any) -> Tensor:
        name = function.__name__
        if name not in self._compiled:
            self._compiled[name] = torch.compile(function, dynamic=False)
        return self._launched(self._compiled[name], x, *constants)


def _as_it_is(function: Callable[..., Tensor], x: Tensor, *constants: Any) -> Tensor:
    return function(x, *constants)


def _array(values: Tensor) -> Array:
    array: Array = values.float().cpu().numpy()
    return array


def _store_weights_as(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights autocast would convert on every call; norms keep their float32."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.to(dtype)


@contextmanager
def _memory_advice() -> Iterator[None]:
    """Turns an out-of-memory error into advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TileMemoryError("out of memory on one tile; choose a smaller --tile") from error
