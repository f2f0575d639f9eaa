"""Passes over the calibration images: teacher targets, a component's inputs, ranges.

Results lie on disk, one file an image, so that a kill loses one image at most and memory holds
one batch at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from passionsr_cli.fitting.loop import write_state
from passionsr_cli.layers.convert import Learning
from passionsr_cli.progress import Reporter
from passionsr_cli.system.files import replace_atomically


@dataclass(frozen=True)
class TensorFolder:
    """Tensors of images on disk, numbered: `z-00003.safetensors` is that of image 3."""

    folder: Path
    name: str

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.name}-{number:05d}.safetensors"

    def holds(self, numbers: Sequence[int]) -> bool:
        return all(self._path(number).exists() for number in numbers)

    def remove(self) -> None:
        """Delete all of this name."""
        for path in self.folder.glob(f"{self.name}-*.safetensors"):
            path.unlink()

    def write(self, numbers: Sequence[int], tensors: Tensor) -> None:
        from safetensors.torch import save_file

        for number, tensor in zip(numbers, tensors.float().cpu(), strict=True):
            with replace_atomically(self._path(number)) as temporary:
                save_file({"tensor": tensor.contiguous()}, temporary)

    def read(self, numbers: Sequence[int]) -> Tensor:
        """Tensors (B, …) of several images."""
        from safetensors.torch import load_file

        return torch.stack([load_file(self._path(number))["tensor"] for number in numbers])


@torch.no_grad()
def fill(
    results: Sequence[tuple[nn.Module, TensorFolder]],
    inputs: Callable[[Sequence[int]], Tensor],
    count: int,
    task: str,
    reporter: Reporter,
) -> None:
    """Run modules one after the other on each image and keep what each makes."""
    reporter.started(task, count)
    for number in range(count):
        # An earlier run may have left some.
        if not all(folder.holds([number]) for _, folder in results):
            x = inputs([number])
            for module, folder in results:
                x = module(x)
                folder.write([number], x)
        reporter.step(task, number + 1)


@torch.no_grad()
def observe(
    chain: nn.Module,
    layers: dict[str, Learning],
    inputs: Callable[[Sequence[int]], Tensor],
    batches: Sequence[Sequence[int]],
    file: Path,
    save_every_seconds: float,
    task: str,
    reporter: Reporter,
) -> None:
    """Pass all images through observing layers; goes on from `file` if it is there.

    Images of a batch are observed together but passed one by one: memory holds one of them.
    """
    done = 0
    if file.exists():
        device = next(chain.parameters()).device
        saved = torch.load(file, map_location=device, weights_only=True)
        done = saved["done"]
        load_observers(layers, saved["observers"])
    saved_at = time.monotonic()
    reporter.started(task, sum(map(len, batches)))
    for batch in batches[done:]:
        for number in batch:
            chain(inputs([number]))
        for layer in layers.values():
            for observer in layer.observers().values():
                observer.end_batch()
        done += 1
        reporter.step(task, sum(map(len, batches[:done])))
        if time.monotonic() - saved_at > save_every_seconds:
            write_state(file, {"done": done, "observers": observer_states(layers)})
            saved_at = time.monotonic()
    file.unlink(missing_ok=True)


def observer_states(layers: dict[str, Learning]) -> dict[str, Any]:
    """States of all observers."""
    return {
        name: {key: observer.state_dict() for key, observer in layer.observers().items()}
        for name, layer in layers.items()
    }


def load_observers(layers: dict[str, Learning], states: dict[str, Any]) -> None:
    """Give all observers what `observer_states` noted."""
    for name, layer in layers.items():
        for key, observer in layer.observers().items():
            observer.load_state_dict(states[name][key])


class _Reached(Exception):  # noqa: N818  (control flow, no error)
    """Control flow: what is after it in a chain is not needed."""


def run_until(run: nn.Module, x: Tensor, module: nn.Module) -> None:
    """Run, but no further than through this module."""

    def stop(module: nn.Module, inputs: object, output: object) -> None:
        raise _Reached

    hook = module.register_forward_hook(stop)
    try:
        run(x)
    except _Reached:
        pass
    finally:
        hook.remove()
