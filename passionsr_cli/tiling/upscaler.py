"""From a small image to a large one: pad, tile, run, blend, crop, fix colours, strip by strip."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from passionsr_cli.description import ColorFix
from passionsr_cli.errors import TileMemoryError
from passionsr_cli.inference.executor import Executor, Releasing, Shareable
from passionsr_cli.pixels import colour
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.replay import PutAside
from passionsr_cli.pixels.resampling import pad_mirroring, resampled_rows
from passionsr_cli.pixels.strips import RowStream, made_ahead, spans
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.system.memory import free_bytes
from passionsr_cli.tiling import memory as tile_memory
from passionsr_cli.tiling.plain_areas import with_plain_areas
from passionsr_cli.tiling.regions import divided, repeated_region, times, upscaled_region
from passionsr_cli.tiling.tiles import Axis, Tile, blended_strips, plan_axis, scaled

T = TypeVar("T")
# One half of a model: of a batch of tiles another.
Half = Callable[[Array], Array]
# Gives a half that computes the same; beside it come values by which its results may differ.
Around = Callable[[Half, tuple[object, ...]], Half]


def _as_it_is(half: Half, how: tuple[object, ...]) -> Half:
    return half


@dataclass(frozen=True)
class Upscaled:
    """An upscaled image (3, H, W) in [0, 1] and the number of tiles it took."""

    rgb: Array
    tiles: int


class TiledUpscaler:
    """Upscales images of any size with one executor; the model sees a tile at a time.

    `tile_px` and `overlap_px` count pixels of the result; `tile_px` 0 means no tiling, "auto" the
    fastest tile that fits in the memory that is free now (see `memory`). Others than multiples of
    what the model needs are rounded up, with a note; tiles overlap by half of one at most.
    `color_fix`, `realism`, `margin_px` and `plain_px` None mean what the model's description says;
    `realism` in [0, 1] is for models with a dial. Several threads may use one: they take turns at
    the model. Where an image `is_only` one, a large model is never in memory as a whole: all of
    the image's latents come first, and what made them goes before they are decoded.
    """

    def __init__(
        self,
        executor: Executor,
        tile_px: int | Literal["auto"] = "auto",
        overlap_px: int = 48,
        color_fix: ColorFix | None = None,
        reporter: Reporter = SILENT,
        realism: float | None = None,
        margin_px: int | None = None,
        plain_px: int | None = None,
        is_only: bool = False,
    ) -> None:
        self.executor = executor
        self.realism = executor.description.realism if realism is None else realism
        self.factor = executor.description.upscale_factor
        self.color_fix = color_fix or executor.description.color_fix
        self.latent_factor = executor.description.latent_factor
        # Tiles begin where both an LR pixel and a latent pixel begin, and halve evenly.
        self.unit_px = executor.description.unit_px
        beyond = executor.description.margin_px if margin_px is None else margin_px
        self.margin_px = -(-beyond // self.unit_px) * self.unit_px
        self.plain_px = executor.description.plain_px if plain_px is None else plain_px
        self._wanted_overlap_px, self._reporter = overlap_px, reporter
        free = free_bytes(executor.device)
        if tile_px == "auto":
            tile_px = tile_memory.fitting_tile(executor.description, free)
            if tile_px < tile_memory.LARGEST_TILE_PX:
                reporter.note(f"{free / 1e9:.1f} GB of memory are free: tiles of {tile_px} pixels")
            self._set_tile(min(tile_px, tile_memory.FASTEST_TILE_PX), tile_px)
            if self.overlap_px < overlap_px:
                reporter.note(f"tiles overlap by {self.overlap_px} pixels, half of one")
        else:
            self._set_tile(tile_px, tile_px)
            if self.tile_px != tile_px:
                reporter.note(f"tiles of {self.tile_px} pixels: multiples of {self.unit_px}")
        self.batch = tile_memory.tiles_at_once(
            executor.description, executor.device, free, self.tile_px or tile_memory.LARGEST_TILE_PX
        )
        self._turn = threading.Lock()
        shared_tile_px = self.tile_px or tile_memory.LARGEST_TILE_PX
        at_once = tile_memory.tiles_in_parallel(executor.description, free, shared_tile_px)
        self._shared, self.at_once = None, 1
        self._in_halves = is_only and tile_memory.is_large(executor.description, shared_tile_px)
        if executor.device == "cpu" and isinstance(executor, Shareable) and at_once > 1:
            self._shared, self.at_once = executor.shared(at_once), at_once

    def _set_tile(self, tile_px: int, uncut_px: int) -> None:
        """Tiles of this size for images that are longer than `uncut_px`."""
        self.tile_px = -(-tile_px // self.unit_px) * self.unit_px
        self.overlap_px = min(self._wanted_overlap_px, self.tile_px // 2)
        self._uncut_px = max(uncut_px, self.tile_px)

    def upscale(self, rgb: Array) -> Upscaled:
        """Upscale an RGB image (3, h, w) in [0, 1]."""
        strips = self.within_memory(lambda: list(self.strips(rgb)))
        image = strips[0] if len(strips) == 1 else np.concatenate(strips, 1)
        return Upscaled(image, self.count_tiles(rgb))

    def within_memory(self, work: Callable[[], T]) -> T:
        """Do `work`, begun again with smaller tiles, from now on, each time that one
        does not fit in memory."""
        while True:
            tile_px = self.tile_px
            try:
                return work()
            except TileMemoryError:
                smaller = (tile_px or 2 * tile_memory.LARGEST_TILE_PX) // 2
                if smaller < max(tile_memory.SMALLEST_TILE_PX, self.unit_px):
                    raise
                # Another thread may have come to the same end before.
                if self.tile_px == tile_px:
                    self._set_tile(smaller, smaller)
                    self.batch = 1
                self._reporter.note(f"out of memory: again, with tiles of {self.tile_px} pixels")

    def count_tiles(self, rgb: Array) -> int:
        """Count the tiles an image takes."""
        rows, columns = self._axes(rgb)
        return len(rows.starts) * len(columns.starts)

    def strips(
        self, rgb: Array, task: str = "", reporter: Reporter = SILENT, around: Around = _as_it_is
    ) -> Iterator[Array]:
        """The upscaled image in strips (3, rows, W) from top to bottom, as they become ready.

        What is held in memory grows with the width of the image, not with its height. `reporter`
        hears the share of the image that is done, as steps of `task`. Where a tile takes all
        cores, both halves of the model are called through what `around` makes of them. Raises
        `TileMemoryError` where a tile does not fit.
        """
        reporter.started(task, 1.0)
        count, numbers = 2 * self.count_tiles(rgb), itertools.count(1)

        def on_tile() -> None:
            reporter.step(task, next(numbers) / count)

        height, width = (side * self.factor for side in rgb.shape[-2:])
        strips = self._cropped(self._padded(rgb, on_tile, around), height, width)
        strips = self._colours_fixed(strips, rgb)
        if self.plain_px:
            strips = with_plain_areas(strips, rgb, self.factor, self.plain_px)
        for strip in strips:
            yield strip.clip(0, 1)

    def _axes(self, rgb: Array) -> tuple[Axis, Axis]:
        rows, columns = (self._axis(side * self.factor) for side in rgb.shape[-2:])
        return rows, columns

    def _axis(self, side_px: int) -> Axis:
        length = -(-(side_px + 2 * self.margin_px) // self.unit_px) * self.unit_px
        cut = 0 < self._uncut_px < length - 2 * self.margin_px
        return plan_axis(length, self.tile_px if cut else length, self.overlap_px, self.unit_px)

    def _cropped(self, strips: Iterator[Array], height: int, width: int) -> Iterator[Array]:
        """The model's image without the padding."""
        columns = slice(self.margin_px, self.margin_px + width)
        above, below = self.margin_px, self.margin_px + height
        for strip in strips:
            rows = strip[:, max(above, 0) : max(below, 0), columns]
            if rows.size:
                yield rows
            above, below = above - strip.shape[1], below - strip.shape[1]

    def _padded(self, rgb: Array, on_tile: Callable[[], None], around: Around) -> Iterator[Array]:
        """Blended as latents first, then as pixels; a row of tiles is decoded as soon as all
        latents that it shows are there."""
        rows, columns = self._axes(rgb)
        factor, f = self.factor, self.latent_factor
        height, width = (_length(axis) // factor for axis in (rows, columns))
        padded = pad_mirroring(rgb, height, width, self.margin_px // factor)
        repeats = self.executor.description.encoder == "unshuffle"
        # An image that is a single tile gets all cores.
        several = self._shared if len(rows.starts) * len(columns.starts) > 1 else None
        executor = several or self.executor

        def run(half: Half, parts: Iterator[Array], *how: object) -> Iterator[Array]:
            if several is None:
                # Tiles so small that several are computed at once are fast.
                half = around(half, how)
            for result in self._results(half, parts, several is not None):
                on_tile()
                yield result

        def restore(tiles: Iterator[Tile]) -> Iterator[Array]:
            places = ((times(tile.rows, f), times(tile.columns, f)) for tile in tiles)
            enlarge = repeated_region if repeats else upscaled_region
            regions = (enlarge(padded, factor, *place) for place in places)
            restored = partial(executor.restore_latent, realism=self.realism)
            return run(restored, regions, "restored", self.realism)

        def parts_of_latents(tiles: Iterator[Tile]) -> Iterator[Array]:
            for rows_px, row in itertools.groupby(tiles, lambda tile: tile.rows):
                seen = divided(rows_px, f)
                strip = latents.window(seen.start, seen.stop)
                yield from (strip[:, :, divided(tile.columns, f)] for tile in row)

        def decode(tiles: Iterator[Tile]) -> Iterator[Array]:
            return run(executor.decode, parts_of_latents(tiles), "decoded")

        channels = int(self.executor.description.vae["latent_channels"])
        small = [scaled(axis, self.overlap_px, f) for axis in (rows, columns)]
        strips = blended_strips(small[0], small[1], channels, restore)
        if several is not None:
            # One row of tiles is decoded while the latents of the next are made.
            strips = made_ahead(strips)
        elif self._in_halves and isinstance(executor, Releasing):
            strips = _all_made(strips, executor.release_restoring)
        latents = RowStream(strips)
        return blended_strips(rows, columns, 3, decode)

    def _results(self, half: Half, parts: Iterator[Array], at_once: bool) -> Iterator[Array]:
        """Output of half of the model for each tile, in order: of a batch in one turn, or of
        several at once, the next of which is made ready meanwhile."""
        if not at_once:
            while batch := list(itertools.islice(parts, self.batch)):
                with self._turn:
                    results = half(np.stack(batch))
                yield from results
            return
        with ThreadPoolExecutor(self.at_once, "tile") as pool:
            waiting: deque[Future[Array]] = deque()
            for part in parts:
                waiting.append(pool.submit(half, part[None]))
                if len(waiting) > self.at_once:
                    yield waiting.popleft().result()[0]
            while waiting:
                yield waiting.popleft().result()[0]

    def _colours_fixed(self, strips: Iterator[Array], lr: Array) -> Iterator[Array]:
        height, width = (side * self.factor for side in lr.shape[-2:])

        def upscaled(rows: tuple[int, int]) -> Array:
            return resampled_rows(lr, (height, width), rows, "bicubic")

        if self.color_fix == "adain":
            return _with_moments_of(map(upscaled, spans(height)), strips)
        if self.color_fix == "wavelet":
            return colour.replace_low_frequencies(strips, height, upscaled)
        return strips


def _with_moments_of(reference: Iterator[Array], strips: Iterator[Array]) -> Iterator[Array]:
    """Both as images hold them, in [0, 1]. None comes before the last one was seen."""
    aside = PutAside()
    found = colour.moments(aside.passing(strip.clip(0, 1) for strip in strips))
    wanted = colour.moments(strip.clip(0, 1) for strip in reference)
    return (colour.match_moments(strip, found, wanted) for strip in aside.replay())


def _all_made(strips: Iterator[Array], then: Callable[[], None]) -> Iterator[Array]:
    made = list(strips)
    then()
    yield from made


def _length(axis: Axis) -> int:
    return axis.starts[-1] + axis.length
