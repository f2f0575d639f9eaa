"""Fidelity of an exported model to its definition, on a real photograph."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from passionsr_cli.imaging import samples
from passionsr_cli.inference.executor import Executor
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.layers.convert import quantized_layers
from passionsr_cli.layers.products import QuantizedLayer
from passionsr_cli.metrics.psnr import decibels
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.resampling import pad_mirroring
from passionsr_cli.system.devices import open_device
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.tiling.upscaler import TiledUpscaler

PHOTOGRAPH = "sample:astronaut"
DEFAULT_SIZE_PX = 512
# Other kernels add in another order, and a value midway between two integers then goes the other
# way. So an export must come as near to the definition as the definition comes to itself with
# this much relative noise behind each quantized layer, save for the allowance, or as near as no
# eye or file can tell. Pixels of an image share few values: where one lies midway, all of them go.
# In 16 bits every result is rounded by up to half of its last bit.
NUDGE = {"fp32": 1e-6, "fp16": 2.0**-11}
ALLOWANCE_DB = 3.0
ENOUGH_DB = 60.0


@dataclass(frozen=True)
class Fidelity:
    """Of two images in [0, 1]: PSNR in dB (None if they are equal) and the largest difference.

    `required_psnr` is what an export has to reach; `realism` the setting of the model's dial, if it
    has one, at which they were compared.
    """

    psnr: float | None
    largest_difference: float
    required_psnr: float
    realism: float | None = None

    @property
    def margin(self) -> float:
        """Margin in dB over what is required."""
        return math.inf if self.psnr is None else self.psnr - self.required_psnr

    @property
    def sufficient(self) -> bool:
        return self.margin >= 0


@dataclass(frozen=True)
class Setting:
    """The definition's image of the photograph at one `realism`, and how near it is to itself;
    without a dial `realism` is None."""

    realism: float | None
    image: Array
    psnr_to_itself: float | None

    def compare(self, found: Array) -> Fidelity:
        """Compare an exported model's image."""
        least = [ENOUGH_DB]
        if self.psnr_to_itself is not None:
            least.append(self.psnr_to_itself - ALLOWANCE_DB)
        difference = float(np.abs(found - self.image).max())
        return Fidelity(psnr(found, self.image), difference, min(least), self.realism)


@dataclass(frozen=True)
class Definition:
    """The definition's images of the photograph (3, h, w) at each setting that is compared."""

    photograph: Array
    settings: tuple[Setting, ...]

    def compare(self, executor: Executor) -> Fidelity:
        """Run an exported model on the same photograph; of several settings the worst counts."""
        found = [
            setting.compare(upscaled(executor, self.photograph, setting.realism))
            for setting in self.settings
        ]
        return min(found, key=lambda fidelity: fidelity.margin)

    def keep(self, file: Path) -> None:
        """Write a .npz file, for `kept_definition`."""
        about = json.dumps([(each.realism, each.psnr_to_itself) for each in self.settings])
        images = [each.image for each in self.settings]
        with replace_atomically(file) as temporary:
            np.savez(temporary, photograph=self.photograph, about=about, images=images)


def kept_definition(file: Path) -> Definition | None:
    """The definition that was kept in a file, None where there is none that is whole."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            photograph, images, about = kept["photograph"], kept["images"], str(kept["about"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    settings = (
        Setting(realism, image, nearness)
        for (realism, nearness), image in zip(json.loads(about), images, strict=True)
    )
    return Definition(photograph, tuple(settings))


def define(
    model: OneStepModel, size_px: int, precision: str = "fp32", file: Path | None = None
) -> Definition:
    """Run the definition on the photograph, in one tile with sides of `size_px`.

    `precision`, fp32 or fp16, is what the export computes in, which says how near it can come. It
    is kept in `file`, or taken from there: the model then lies in memory as if it had run, by which
    graphs that are made of it may differ.
    """
    executor = TorchExecutor(model, open_device("cpu", "fp32"))
    if file is not None and (kept := kept_definition(file)) is not None:
        return kept
    photograph = lr_photograph(size_px // model.description.upscale_factor)
    default = model.description.realism
    settings = []
    for realism in [None] if default is None else sorted({0.0, default, 1.0}):
        image = upscaled(executor, photograph, realism)
        with _nudged(model, NUDGE[precision]):
            again = upscaled(executor, photograph, realism)
        settings.append(Setting(realism, image, psnr(again, image)))
    definition = Definition(photograph, tuple(settings))
    if file is not None:
        definition.keep(file)
    return definition


@contextmanager
def _nudged(model: OneStepModel, noise: float) -> Iterator[None]:
    """Noise behind each quantized layer, the same every time, and an image a little brighter."""
    generator = torch.Generator().manual_seed(0)

    def nudge(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * (1 + noise * torch.randn(output.shape, generator=generator))

    def brighten(first: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * (1 + noise), *inputs[1:])

    layers = [x for x in quantized_layers(model).values() if isinstance(x, QuantizedLayer)]
    hooks = [layer.register_forward_hook(nudge) for layer in layers]
    reads_images = model.unet if model.vae.encoder is None else model.vae.encoder
    hooks.append(reads_images.register_forward_pre_hook(brighten))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def lr_photograph(side: int) -> Array:
    """The photograph as a square LR image (3, side, side), its middle or, mirrored, more."""
    photograph = samples.low_resolution(PHOTOGRAPH)
    photograph = pad_mirroring(
        photograph, max(side, photograph.shape[1]), max(side, photograph.shape[2])
    )
    top, left = ((length - side) // 2 for length in photograph.shape[1:])
    return photograph[:, top : top + side, left : left + side]


def upscaled(executor: Executor, photograph: Array, realism: float | None = None) -> Array:
    """The network's image of a whole photograph in one tile of its own size."""
    upscaler = TiledUpscaler(
        executor, 0, color_fix="none", realism=realism, margin_px=0, plain_px=0
    )
    return upscaler.upscale(photograph).rgb


def psnr(first: Array, second: Array) -> float | None:
    """PSNR in dB of images in [0, 1]; None if they are equal."""
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return None if error == 0 else decibels(error)
