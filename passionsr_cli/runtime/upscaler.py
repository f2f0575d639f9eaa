"""From a small image to a large one: pad, tile, run, blend, crop, fix colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging import colour
from passionsr_cli.imaging.resampling import bicubic, pad_reflecting, resampled_rows
from passionsr_cli.imaging.rows import strips_of
from passionsr_cli.imaging.tiles import Axis, Tile, plan_axis, scaled, tiles
from passionsr_cli.registry import ColorFix
from passionsr_cli.runtime.executor import Executor

SMALLEST_SIDE_PX = 8
# The bicubic kernel reaches two pixels; one more for safety in rounding.
BICUBIC_CONTEXT_PX = 3


@dataclass(frozen=True)
class Upscaled:
    """An upscaled image (3, H, W) in [0, 1] and the number of tiles it took."""

    rgb: Tensor
    tiles: int


class Upscaler:
    """Upscales images of any size with one executor; the model sees a tile at a time.

    `tile_px` and `overlap_px` count pixels of the result; `tile_px` 0 means no tiling.
    `color_fix` None means what the model's description says.
    """

    def __init__(
        self,
        executor: Executor,
        tile_px: int = 512,
        overlap_px: int = 64,
        color_fix: ColorFix | None = None,
    ) -> None:
        self.executor = executor
        self.factor = executor.description.upscale_factor
        self.color_fix = color_fix or executor.description.color_fix
        self.latent_factor = executor.description.latent_factor
        # Tiles begin where both an LR pixel and a latent pixel begin, and halve evenly.
        self.unit_px = math.lcm(executor.description.size_multiple_px, self.factor)
        self.tile_px = -(-tile_px // self.unit_px) * self.unit_px
        self.overlap_px = min(overlap_px, self.tile_px // 2)

    def upscale(
        self, rgb: Tensor, on_tile: Callable[[float], None] = lambda done: None
    ) -> Upscaled:
        """Upscale an RGB image (3, h, w) in [0, 1]; `on_tile` hears the share done so far."""
        height, width = rgb.shape[-2:]
        if min(height, width) < SMALLEST_SIDE_PX:
            raise ImageError(
                f"the image is {width}×{height} px, "
                f"at least {SMALLEST_SIDE_PX}×{SMALLEST_SIDE_PX} are needed"
            )
        unit = self.unit_px // self.factor
        padded = pad_reflecting(rgb, -(-height // unit) * unit, -(-width // unit) * unit)
        rows, columns = self._axis(padded.shape[-2]), self._axis(padded.shape[-1])
        count = len(rows.starts) * len(columns.starts)
        image = self._decode(self._restore(padded, rows, columns, on_tile), rows, columns, on_tile)
        image = image[:, : height * self.factor, : width * self.factor]
        return Upscaled(self._fix_colour(image, rgb).clamp_(0, 1), count)

    def _axis(self, lr_length: int) -> Axis:
        length = lr_length * self.factor
        return plan_axis(length, self.tile_px or length, self.overlap_px, self.unit_px)

    def _restore(
        self, lr: Tensor, rows: Axis, columns: Axis, on_tile: Callable[[float], None]
    ) -> Tensor:
        """z_H of the whole image, blended from its tiles."""
        height, width = (side * self.factor // self.latent_factor for side in lr.shape[-2:])
        canvas = torch.zeros(self.executor.description.unet["in_channels"], height, width)
        count = len(rows.starts) * len(columns.starts)
        for done, (tile, place) in enumerate(self._tile_pairs(rows, columns), 1):
            upscaled = upscaled_region(lr, self.factor, tile.rows, tile.columns)
            latent = self.executor.restore_latent(upscaled.unsqueeze(0)).squeeze(0)
            canvas[:, place.rows, place.columns] += latent * place.weight
            on_tile(0.5 * done / count)
        return canvas

    def _decode(
        self, latent: Tensor, rows: Axis, columns: Axis, on_tile: Callable[[float], None]
    ) -> Tensor:
        """The image of a whole z_H, blended from its tiles."""
        height, width = (side * self.latent_factor for side in latent.shape[-2:])
        canvas = torch.zeros(3, height, width)
        count = len(rows.starts) * len(columns.starts)
        for done, (tile, place) in enumerate(self._tile_pairs(rows, columns), 1):
            part = latent[:, place.rows, place.columns]
            image = self.executor.decode(part.unsqueeze(0)).squeeze(0)
            canvas[:, tile.rows, tile.columns] += image * tile.weight
            on_tile(0.5 + 0.5 * done / count)
        return canvas

    def _tile_pairs(self, rows: Axis, columns: Axis) -> Iterator[tuple[Tile, Tile]]:
        """Each tile in pixels of the result, and the same tile in latent pixels."""
        overlap, divisor = self.overlap_px, self.latent_factor
        latent = tiles(scaled(rows, overlap, divisor), scaled(columns, overlap, divisor))
        return zip(tiles(rows, columns), latent, strict=True)

    def _fix_colour(self, image: Tensor, lr: Tensor) -> Tensor:
        """`image` in the colours of `lr`; in place where that can be done."""
        size = (image.shape[-2], image.shape[-1])
        if self.color_fix == "adain":
            found, wanted = (colour.moments(strips_of(whole)) for whole in (image, lr))
            return colour.match_moments(image, found, wanted)
        if self.color_fix == "wavelet":
            # Copies: strips are read once more after those above them were written.
            strips = (strip.clone() for strip in strips_of(image))
            fixed = colour.replace_low_frequencies(
                strips, size[0], lambda rows: resampled_rows(lr, size, rows, "bicubic")
            )
            top = 0
            for strip in fixed:
                image[:, top : top + strip.shape[-2]] = strip
                top += strip.shape[-2]
        return image


def upscaled_region(lr: Tensor, factor: int, rows: slice, columns: slice) -> Tensor:
    """What a bicubic upscale of the whole `lr` (3, h, w) shows in one region of the result.

    Clamped to [0, 1]: what a model was trained on came from files.
    """
    top, bottom, above = _with_context(rows, factor, lr.shape[-2])
    left, right, before = _with_context(columns, factor, lr.shape[-1])
    part = lr[:, top:bottom, left:right].unsqueeze(0)
    size = (part.shape[-2] * factor, part.shape[-1] * factor)
    large = bicubic(part, size).squeeze(0).clamp(0, 1)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return large[:, above : above + height, before : before + width]


def _with_context(region: slice, factor: int, lr_length: int) -> tuple[int, int, int]:
    """LR start and stop of an upscaled region with context, and where the region begins there."""
    start = max(0, region.start // factor - BICUBIC_CONTEXT_PX)
    stop = min(lr_length, region.stop // factor + BICUBIC_CONTEXT_PX)
    return start, stop, region.start - start * factor
