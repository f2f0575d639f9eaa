"""From the model's image to what the file holds: size, colours, transparency, in strips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from passionsr_cli.imaging import profiles
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.resampling import REACH_PX, resample_rows, resampled_rows, source_span
from passionsr_cli.pixels.strips import RowStream, spans

LUMA = np.array((0.299, 0.587, 0.114), np.float32)[:, None, None]


def finished(
    strips: Iterable[Array],
    strips_size: tuple[int, int],
    picture: Picture,
    size: tuple[int, int],
) -> Iterator[Array]:
    """The file's image of `size` (width, height), top to bottom in strips of `STRIP_PX` rows.

    `strips` (3, h, w) in [0, 1] of any heights are together `strips_size` large: `picture.rgb`,
    upscaled. They are resampled by Lanczos if need be. The colours return to the picture's
    profile; what of them sRGB could not show, and the opacity, are upscaled by themselves.
    (Bicubic: after the overshoot that is clipped, its step response is flat; Lanczos would ring
    along edges of opacity.) Results are (C, h, W) in [0, 1]: grey or RGB, then alpha.
    """
    stream = RowStream(strips)
    profile = picture.metadata.icc_profile
    shape = (size[1], size[0])
    for rows in spans(size[1]):
        rgb = _resampled(stream, strips_size, size, rows)
        if picture.beyond_srgb is not None and profile is not None:
            beyond = resampled_rows(picture.beyond_srgb, shape, rows, "bicubic")
            rgb = profiles.from_srgb(rgb, profile) + beyond
        planes = [_luma(rgb) if picture.grey else rgb]
        if picture.alpha is not None:
            planes.append(resampled_rows(picture.alpha, shape, rows, "bicubic"))
        yield np.concatenate(planes).clip(0, 1)


def _resampled(
    stream: RowStream, source: tuple[int, int], size: tuple[int, int], rows: tuple[int, int]
) -> Array:
    if source == size:
        return stream.window(*rows)
    span = source_span(rows, size[1], source[1], REACH_PX["lanczos"])
    window = stream.window(*span)
    return resample_rows(window, span[0], source[1], (size[1], size[0]), rows, "lanczos")


def _luma(rgb: Array) -> Array:
    luma: Array = (rgb * LUMA).sum(0, keepdims=True)
    return luma
