"""TIFF's pixels that Pillow would not read as they are, and the colours that their numbers mean.

Sections and defaults are those of TIFF 6.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from passionsr_cli.metadata.kinds import UPRIGHT

MINISWHITE, MINISBLACK, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
# Channels of each, opacity aside, as they are after palettes and YCbCr have become RGB.
COLOURS = {
    MINISWHITE: 1,
    MINISBLACK: 1,
    RGB: 3,
    PALETTE: 3,
    SEPARATED: 4,
    YCBCR: 3,
    CIELAB: 3,
    ICCLAB: 3,
}
LAB = (CIELAB, ICCLAB)
# Of these a value means the same at 8 and 16 bits alone.
WHOLE_BYTES = (SEPARATED, YCBCR, *LAB)
# Their decoders turn YCbCr into RGB.
JPEGS = (6, 7, 34892, 33007)
ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA = 1, 2
ORIENTATION, YCBCR_COEFFICIENTS, REFERENCE_BLACK_WHITE = 274, 529, 532
# Of red, green and blue in Y: ITU-R BT.601's, the default (section 21).
LUMA = (0.299, 0.587, 0.114)


class DeepPixels:
    """Pixels (H, W, C), `white` at most, and what the file says of them.

    C is `colours`, then opacity if `has_alpha`, then what nobody looks at.
    """

    def __init__(self, page: Any) -> None:
        self.pixels: npt.NDArray[Any] = _as_rows(page)
        self.white = 2**page.bitspersample - 1
        self.depth = 16 if page.bitspersample > 8 else 8
        self.photometric = int(page.photometric)
        if self.photometric == MINISWHITE:
            self.pixels = self._with_colours(self.white - self.pixels[..., :1], 1)
        elif self.photometric == PALETTE:
            self.white = 65535 if self.depth == 16 else 255
            self.pixels = self._with_colours(_mapped(self.pixels[..., 0], page), 1)
        elif self.photometric == YCBCR and page.compression not in JPEGS:
            self.pixels = self._with_colours(_rgb(self.pixels, page), 3)
        self.colours = COLOURS[self.photometric]
        extra = page.extrasamples[0] if page.extrasamples else None
        self.has_alpha = extra in (ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA)
        self.premultiplied = extra == ASSOCIATED_ALPHA
        orientation = page.tags.get(ORIENTATION)
        self.orientation = int(orientation.value) if orientation else UPRIGHT

    def _with_colours(self, colours: npt.NDArray[Any], instead_of: int) -> npt.NDArray[Any]:
        """Colours in place of the first channels; the further ones stay."""
        return np.concatenate([colours, self.pixels[..., instead_of:]], axis=-1)

    @property
    def lab(self) -> npt.NDArray[np.float32]:
        """CIE 1976 L* in [0, 100], a* and b* (H, W, 3) of pixels that are it (section 23; Adobe's
        technical notes on TIFF of 2002 for ICC's encoding)."""
        values = self.pixels[..., :3].astype(np.float32)
        unit = 256 if self.depth == 16 else 1
        if self.photometric == ICCLAB:
            # One more than the largest L* would be in its upper byte.
            largest, offset = 255 * unit, 128
        else:
            largest, offset = self.white, 0
            values[..., 1:] -= (values[..., 1:] > self.white // 2) * np.float32(self.white + 1)
        values[..., 0] *= 100 / largest
        values[..., 1:] = values[..., 1:] / unit - offset
        return values


def has_narrow_palette(page: Any) -> bool:
    """Tell whether a palette holds 8 bits where TIFF has 16, as some programs write it."""
    return page.photometric == PALETTE and int(np.max(page.colormap)) <= 255


def refusal(page: Any) -> str:
    """Why the colours of a page of tifffile's cannot be told; empty if they can."""
    bits, kind = page.bitspersample, page.photometric
    if kind not in COLOURS or (kind in WHOLE_BYTES and bits not in (8, 16) and not _jpeg(page)):
        return f"{bits}-bit {kind.name} pixels"
    if kind == YCBCR and _jpeg(page) and (page.planarconfig != 1 or page.extrasamples):
        return "JPEG-compressed YCBCR in separate planes or with transparency"
    if is_subsampled(page):
        return "YCBCR pixels of fewer colours than brightnesses"
    return ""


def is_subsampled(page: Any) -> bool:
    """Tell whether chroma has fewer values than luma, outside JPEG: the default (section 21)."""
    return page.photometric == YCBCR and not _jpeg(page) and page.subsampling != (1, 1)


def _jpeg(page: Any) -> bool:
    return page.compression in JPEGS


def _as_rows(page: Any) -> npt.NDArray[np.unsignedinteger[Any]]:
    pixels = np.asarray(page.asarray())
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.ndim == 3 and page.axes.startswith("S"):
        return pixels.transpose(1, 2, 0)
    if pixels.ndim == 3:
        return pixels
    raise ValueError(f"pixels with the axes {page.axes}; a photograph has rows and columns")


def _mapped(indices: npt.NDArray[Any], page: Any) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Colours of a palette (H, W, 3), of as many bits as its indices, 8 or 16."""
    levels = np.asarray(page.colormap)
    if has_narrow_palette(page):
        levels = levels * 257
    if page.bitspersample <= 8:
        levels = (levels >> 8).astype(np.uint8)
    colours: npt.NDArray[np.unsignedinteger[Any]] = levels.T[indices]
    return colours


def _rgb(pixels: npt.NDArray[Any], page: Any) -> npt.NDArray[np.float32]:
    """RGB of YCbCr (section 21), in the same unit."""
    white, middle = 2**page.bitspersample - 1, 2 ** (page.bitspersample - 1)
    limits = _fractions(page, REFERENCE_BLACK_WHITE)
    if len(limits) != 6 or limits[1] < middle:
        # Without it, or with that of 8 bits at 16, as tifffile writes it.
        limits = [0, white, middle, white, middle, white]
    ranges = (white, middle - 1, middle - 1)
    y, blue_difference, red_difference = (
        (pixels[..., place].astype(np.float32) - limits[2 * place])
        * np.float32(ranges[place] / (limits[2 * place + 1] - limits[2 * place]))
        for place in range(3)
    )
    red, green, blue = _fractions(page, YCBCR_COEFFICIENTS) or LUMA
    r = y + red_difference * np.float32(2 - 2 * red)
    b = y + blue_difference * np.float32(2 - 2 * blue)
    g = (y - r * np.float32(red) - b * np.float32(blue)) * np.float32(1 / green)
    planes: npt.NDArray[np.float32] = np.stack([r, g, b], axis=-1).clip(0, white)
    return planes


def _fractions(page: Any, code: int) -> list[float]:
    """The fractions of a tag, which tifffile gives one after the other; none without it."""
    tag = page.tags.get(code)
    values = tag.value if tag is not None and isinstance(tag.value, tuple) else ()
    return [above / below for above, below in zip(values[::2], values[1::2], strict=True)]
