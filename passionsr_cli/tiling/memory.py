"""Size of a tile: what it takes of memory, and what this machine has left."""

from __future__ import annotations

import psutil

from passionsr_cli.description import ModelDescription

# What models are made for, and what an image may measure without being cut.
LARGEST_TILE_PX = 512
# Attention grows with the square of a tile's area: with an overlap of 64 pixels, a megapixel of a
# large image takes 0.61 s in tiles of 320 pixels, 0.64 of 384, 0.62 of 448, 0.67 of 512, 1.1 of 768
# and 2.0 of 1024 (mini, OpenVINO in bf16, two CPU cores). The larger the tile, the more it knows;
# at 416, images a little longer than 512 waste less on tiles that hardly differ.
FASTEST_TILE_PX = 416
SMALLEST_TILE_PX = 128
# Activations of the widest level that are alive at one time, as measured on mini and on the
# architecture of Stable Diffusion 2.1, rounded up.
LIVE_MAPS = 8
# What is free now may be wanted by others before the work is over.
USABLE_SHARE = 0.5
MOST_TILES_AT_ONCE = 8
# Of tiles that are computed at the same time: one that takes more keeps its cores busy by itself.
MOST_SHARED_BYTES = 1 << 29


def tile_bytes(description: ModelDescription, tile_px: int) -> int:
    """Roughly the memory that one tile takes beside the model's weights, in float32."""
    patch = tile_px // description.patch_size
    latent = tile_px // description.latent_factor
    channels: list[int] = description.vae["block_out_channels"]
    # A decoder's level still has the channels of the one below where it begins.
    widest = max(
        channels[min(level + 1, len(channels) - 1)] * (patch >> level) ** 2
        for level in range(len(channels))
    )
    attention = (latent >> _first_level_with_attention(description)) ** 4
    return 4 * (LIVE_MAPS * widest + attention)


def _first_level_with_attention(description: ModelDescription) -> int:
    """Halvings of the latent before attention sees all of its pixels."""
    if description.vae.get("mid_block_add_attention", True):
        return 0
    kinds: list[str] = description.unet["down_block_types"]
    levels = [level for level, kind in enumerate(kinds) if "CrossAttn" in kind]
    # The UNet's middle has attention at the lowest level.
    return min([*levels, len(kinds) - 1])


def fitting_tile(description: ModelDescription, free: int) -> int:
    """The largest tile, up to the one models are made for, that fits in `free` bytes."""
    tile_px = LARGEST_TILE_PX
    while tile_px > SMALLEST_TILE_PX and tile_bytes(description, tile_px) > USABLE_SHARE * free:
        tile_px -= 64
    return tile_px


def tiles_at_once(description: ModelDescription, device: str, free: int, tile_px: int) -> int:
    """Count of the tiles a CUDA device gets in one batch; on a CPU batches are no faster
    (0.139 s for a tile alone, 0.141 s in fours) and cost memory."""
    if not device.startswith("cuda"):
        return 1
    fitting = int(USABLE_SHARE * free) // tile_bytes(description, tile_px)
    return max(1, min(MOST_TILES_AT_ONCE, fitting))


def is_large(description: ModelDescription, tile_px: int) -> bool:
    """Tell whether a tile takes so much that it keeps all cores busy by itself."""
    return 2 * tile_bytes(description, tile_px) > MOST_SHARED_BYTES


def tiles_in_parallel(description: ModelDescription, free: int, tile_px: int) -> int:
    """Count of the tiles that threads compute at the same time where the executor is `Shareable`:
    two, where there are as many cores and the memory for them is little."""
    fits = 2 * tile_bytes(description, tile_px) <= USABLE_SHARE * free
    several = fits and not is_large(description, tile_px)
    return 2 if several and (psutil.cpu_count(logical=False) or 1) > 1 else 1
