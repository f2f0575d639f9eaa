"""Views of a result beside its input: the whole picture, and a place at pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.pixels.arrays import rounded_levels
from passionsr_cli.upscaling.images import Done

if TYPE_CHECKING:
    from PIL import Image

WHOLE_PX, PLACE_PX = 2048, 640
# What a view is made of is decoded as a whole, in three bytes a pixel.
LARGEST_VIEWED_PX = 300_000_000

Views = tuple[Path, Path]
Box = tuple[float, float, float, float]


def whole(done: Done) -> Views:
    """Files of the whole input and of the whole result, of at most `WHOLE_PX` pixels a side.

    Raises `ImageError` for a result that cannot be shown.
    """
    width, height = done.output_size
    shrink = max(1.0, max(width, height) / WHOLE_PX)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    return _views(done, (0, 0, width, height), size, "whole", quality=90)


def at_pixels(done: Done, across: float, down: float) -> Views:
    """Files of input and result at a place, a pixel of the result on each of theirs.

    `across` and `down` in [0, 1] say where: from the left and from the top. Raises `ImageError`.
    """
    width, height = done.output_size
    sides = (min(PLACE_PX, width), min(PLACE_PX, height))
    left, top = round((width - sides[0]) * across), round((height - sides[1]) * down)
    box = (left, top, left + sides[0], top + sides[1])
    return _views(done, box, sides, f"{left}-{top}", lossless=True)


def _views(done: Done, box: Box, size: tuple[int, int], name: str, **encoding: bool | int) -> Views:
    from PIL import Image

    result = _opened(done)
    factors = [
        large / small for large, small in zip(done.output_size, done.input_size, strict=True)
    ]
    before = _input(done.source).resize(
        size,
        Image.Resampling.BICUBIC,
        (box[0] / factors[0], box[1] / factors[1], box[2] / factors[0], box[3] / factors[1]),
    )
    after = _on_white(result).resize(size, Image.Resampling.BICUBIC, box)
    folder = done.output.parent
    paths = folder / f"{name}-before.webp", folder / f"{name}-after.webp"
    before.save(paths[0], "WEBP", **encoding)
    after.save(paths[1], "WEBP", icc_profile=result.info.get("icc_profile"), **encoding)
    return paths


def _opened(done: Done) -> Image.Image:
    """The result's file, as it is."""
    from PIL import Image, UnidentifiedImageError

    width, height = done.output_size
    if width * height > LARGEST_VIEWED_PX:
        raise ImageError(f"{done.output.name}: too large to be shown; the file has all of it")
    if not (done.output.exists() and Path(done.source).exists()):
        raise ImageError(f"{done.output.name}: is no longer here; upscale the photograph again")
    # Ours, and larger than what Pillow takes for an attack.
    Image.MAX_IMAGE_PIXELS = LARGEST_VIEWED_PX
    try:
        return Image.open(done.output)
    except UnidentifiedImageError:
        raise ImageError(f"{done.output.name}: nothing here shows this format") from None


def _input(source: str) -> Image.Image:
    from PIL import Image

    picture = read_picture(source)
    rgb = picture.rgb if picture.alpha is None else picture.rgb * picture.alpha + 1 - picture.alpha
    return Image.fromarray(rounded_levels(rgb).transpose(1, 2, 0))


def _on_white(image: Image.Image) -> Image.Image:
    """An image without transparency, in 8 bits."""
    from PIL import Image

    if image.mode.startswith("I"):
        return image.point(lambda level: level / 257).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
