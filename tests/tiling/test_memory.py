from __future__ import annotations

import numpy as np
import pytest

from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import TileMemoryError
from passionsr_cli.imaging import samples
from passionsr_cli.inference.torch_executor import TorchExecutor
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.progress import Notes
from passionsr_cli.registry import describe
from passionsr_cli.system.devices import open_device
from passionsr_cli.tiling import memory as tile_memory
from passionsr_cli.tiling.upscaler import TiledUpscaler


class Small(TorchExecutor):
    """Has no memory for tiles of more than 128 pixels."""

    def decode(self, latent: Array) -> Array:
        if latent.shape[-1] * self.description.latent_factor > 128:
            raise TileMemoryError("out of memory on one tile")
        return super().decode(latent)


@pytest.mark.parametrize("name", ["mini", "passionsr-fp"])
def test_the_less_is_free_the_smaller_the_tile(name: str) -> None:
    description = describe(name)
    tiles = [
        tile_memory.fitting_tile(description, free) for free in (10**8, 10**9, 3 * 10**9, 10**11)
    ]
    assert tiles == sorted(tiles)
    assert tiles[0] >= tile_memory.SMALLEST_TILE_PX
    assert tiles[-1] == tile_memory.LARGEST_TILE_PX
    for free, tile in zip((10**9, 3 * 10**9), tiles[1:3], strict=True):
        if tile > tile_memory.SMALLEST_TILE_PX:
            assert tile_memory.tile_bytes(description, tile) <= free / 2


def test_a_large_model_needs_more_than_it_leaves_on_a_small_machine() -> None:
    assert tile_memory.fitting_tile(describe("passionsr-fp"), 10**9) < 512
    assert tile_memory.fitting_tile(describe("mini"), 10**9) == 512


def test_attention_counts_where_it_is() -> None:
    """A map of every pair of pixels, in float32: 128² of them at 512 pixels and f = 4."""
    deep = describe("mini")
    vae = {**deep.vae, "mid_block_add_attention": True}
    everywhere = deep.model_copy(update={"vae": vae})
    more = tile_memory.tile_bytes(everywhere, 512) - tile_memory.tile_bytes(deep, 512)
    assert more == 4 * (128**4 - 32**4)


def test_only_gpus_get_several_tiles_at_once(tiny_description: ModelDescription) -> None:
    assert tile_memory.tiles_at_once(tiny_description, "cpu", 10**12, 512) == 1
    assert tile_memory.tiles_at_once(tiny_description, "cuda:0", 10**12, 512) == 8
    assert tile_memory.tiles_at_once(tiny_description, "cuda:0", 10**6, 512) == 1


def test_small_tiles_are_computed_two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mini, large = describe("mini"), describe("passionsr-fp")
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 4)
    assert tile_memory.tiles_in_parallel(mini, 10**10, 416) == 2
    assert tile_memory.tiles_in_parallel(mini, 10**8, 416) == 1
    assert tile_memory.tiles_in_parallel(large, 10**12, 416) == 1
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 1)
    assert tile_memory.tiles_in_parallel(mini, 10**10, 416) == 1


def test_after_running_out_of_memory_tiles_are_smaller(tiny_model: OneStepModel) -> None:
    notes = Notes()
    executor = Small(tiny_model, open_device("cpu", "fp32"))
    upscaler = TiledUpscaler(executor, 512, 32, reporter=notes)
    lr = samples.low_resolution("sample:coffee")[:, :80, :80]
    found = upscaler.upscale(lr)
    assert notes.texts == [
        "out of memory: again, with tiles of 256 pixels",
        "out of memory: again, with tiles of 128 pixels",
    ]
    assert np.array_equal(found.rgb, TiledUpscaler(executor, 128, 32).upscale(lr).rgb)
    # What was learned holds for the next image.
    upscaler.upscale(lr)
    assert len(notes.texts) == 2


def test_where_no_tile_fits_the_error_remains(tiny_model: OneStepModel) -> None:
    class Smallest(Small):
        def decode(self, latent: Array) -> Array:
            raise TileMemoryError("out of memory on one tile; choose a smaller --tile")

    upscaler = TiledUpscaler(Smallest(tiny_model, open_device("cpu", "fp32")))
    with pytest.raises(TileMemoryError, match="choose a smaller"):
        upscaler.upscale(samples.low_resolution("sample:coffee"))
