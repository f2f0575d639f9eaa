"""Whether tiles should share the statistics of group normalization, measured with `mini`.

    python tests/quality/tile_statistics.py [PHOTOGRAPH…]

Each scene, 256×256 pixels, is upscaled as a whole and in tiles of 512 pixels that overlap by 64,
whose group normalizations take mean and variance from the tile itself, from the whole image, or
from the whole image at half its size, as one could know them of an image of any size. Prints dB
between tiled and whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from passionsr_cli.data.resampling import bicubic
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.models.loading import load
from passionsr_cli.system.devices import open_device
from passionsr_cli.tiling.upscaler import TiledUpscaler

Statistics = dict[nn.Module, tuple[Tensor, Tensor]]


class Watched:
    """The group normalizations of a model: `given` statistics replace a tile's own, `seen` are
    those of the last run."""

    def __init__(self, model: nn.Module) -> None:
        self.given: Statistics = {}
        self.seen: Statistics = {}
        for norm in model.modules():
            if isinstance(norm, nn.GroupNorm):
                norm.forward = self._forward(norm)  # type: ignore[method-assign]

    def _forward(self, norm: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            groups = x.reshape(x.shape[0], norm.num_groups, -1)
            own = groups.mean(-1, keepdim=True), groups.var(-1, unbiased=False, keepdim=True)
            self.seen[norm] = own
            mean, variance = self.given.get(norm, own)
            normal = ((groups - mean) / (variance + norm.eps).sqrt()).reshape(x.shape)
            shape = (1, -1) + (1,) * (x.ndim - 2)
            return normal * norm.weight.view(shape) + norm.bias.view(shape)

        return forward


def _scenes(photographs: list[str]) -> dict[str, Tensor]:
    sky = torch.linspace(0.3, 0.8, 256).view(1, 256, 1).expand(3, 256, 256).clone()
    sky[:, 150:] = torch.from_numpy(samples.high_resolution("sample:grass")[:, :106, :256])
    return {
        "sky above grass": sky,
        "rocket": torch.from_numpy(samples.high_resolution("sample:rocket")[:, :256, 100:356]),
        "astronaut": torch.from_numpy(
            samples.high_resolution("sample:astronaut")[:, 128:384, 128:384]
        ),
        **{Path(path).name: read_picture(path).rgb[:, :256, :256] for path in photographs},
    }


def main() -> None:
    model = load("mini")
    watched = Watched(model)
    executor = TorchExecutor(model, open_device("cpu", "fp32"))
    print(f"{'':32}    own  whole   half")
    for name, lr in _scenes(sys.argv[1:]).items():
        watched.given = {}
        untiled = TiledUpscaler(executor, 0)
        untiled.upscale(bicubic(lr[None], (128, 128))[0].clamp(0, 1).numpy())
        half = dict(watched.seen)
        whole = torch.from_numpy(untiled.upscale(lr.numpy()).rgb)
        exact = dict(watched.seen)
        decibels = []
        for given in ({}, exact, half):
            watched.given = given
            tiled = torch.from_numpy(TiledUpscaler(executor, 512, 64).upscale(lr.numpy()).rgb)
            decibels.append(float(-10 * (tiled - whole).square().mean().log10()))
        print(f"{name[:32]:32}", *(f"{value:6.1f}" for value in decibels))


if __name__ == "__main__":
    main()
