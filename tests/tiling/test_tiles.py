from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest

from passionsr_cli.pixels.arrays import Array
from passionsr_cli.tiling.tiles import Tile, blended_strips, plan_axis, scaled


@pytest.mark.parametrize("length", [512, 528, 960, 976, 1024, 4000, 10000])
@pytest.mark.parametrize(("tile", "overlap"), [(512, 64), (256, 48), (512, 0), (64, 32)])
def test_windows_cover_everything_and_add_up_to_one(length: int, tile: int, overlap: int) -> None:
    axis = plan_axis(length, tile, overlap, 16)
    total = np.zeros(length, np.float32)
    for start, window in zip(axis.starts, axis.windows, strict=True):
        assert start % 16 == 0 or start == length - tile
        total[start : start + axis.length] += window
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.length == length


def test_one_tile_has_the_weight_one_exactly() -> None:
    axis = plan_axis(496, 512, 64, 16)
    assert axis.starts == (0,)
    assert (axis.windows[0] == 1).all()


def test_neighbours_overlap_by_about_what_was_asked() -> None:
    axis = plan_axis(2000, 512, 64, 16)
    overlaps = [a + 512 - b for a, b in zip(axis.starts, axis.starts[1:], strict=False)]
    assert min(overlaps) >= 64 - 16


def test_latent_plan_is_the_pixel_plan_made_smaller() -> None:
    axis = plan_axis(1024, 512, 64, 16)
    small = scaled(axis, 64, 8)
    assert small.length == 64
    assert small.starts == tuple(start // 8 for start in axis.starts)


@pytest.mark.parametrize("ahead", [0, 2])
def test_strips_of_blended_tiles_are_the_plane_from_top_to_bottom(ahead: int) -> None:
    plane = np.random.default_rng(0).random((2, 300, 420), np.float32)
    rows, columns = plan_axis(300, 128, 32, 4), plan_axis(420, 128, 32, 4)
    cut: list[Tile] = []

    def run(tiles: Iterator[Tile]) -> Iterator[Array]:
        waiting: deque[Tile] = deque()
        for tile in tiles:
            cut.append(tile)
            waiting.append(tile)
            if len(waiting) > ahead:
                yield plane[:, waiting[0].rows, waiting.popleft().columns]
        yield from (plane[:, tile.rows, tile.columns] for tile in waiting)

    strips = blended_strips(rows, columns, 2, run)
    first = next(strips)
    # No tile below the first row was needed for it, but who works ahead need not wait for it.
    assert len(cut) == len(columns.starts) + ahead
    np.testing.assert_allclose(np.concatenate([first, *strips], 1), plane, rtol=1e-5)
