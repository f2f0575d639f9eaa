"""ICC profiles: from a file's colours to the sRGB that models know, and back."""

from __future__ import annotations

import functools
import itertools
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.float32]
Space = Literal["rgb", "cmyk", "gray", "lab"]
RELATIVE_COLORIMETRIC, BLACK_POINT_COMPENSATION = 1, 0x2000
# Files' own versions of sRGB differ by less than this; a conversion would only add rounding.
SAME_COLOUR = 2 / 255


@functools.cache
def srgb() -> bytes:
    """A profile of sRGB (IEC 61966-2-1)."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@functools.lru_cache(maxsize=64)
def needs_conversion(profile: bytes | None) -> bool:
    """Tell whether RGB values mean other colours under `profile` than in sRGB.

    False without a profile and for one that is damaged or not for RGB: there is nothing better
    to take such values for than sRGB.
    """
    if not profile:
        return False
    corners = np.array(list(itertools.product(np.linspace(0, 1, 5), repeat=3)), np.float32)
    try:
        seen = _transform(corners[None], profile, srgb(), "rgb")
        _transform(seen, srgb(), profile, "rgb")
    except Exception:
        # Little CMS refuses in as many ways as profiles can be wrong.
        return False
    return bool(np.abs(seen[0] - corners).max() > SAME_COLOUR)


def to_srgb(rgb: Planes, profile: bytes) -> Planes:
    """Colours (3, H, W) under `profile` as sRGB in [0, 1]; what sRGB cannot show is clipped."""
    return _converted(rgb, profile, srgb())


def from_srgb(rgb: Planes, profile: bytes) -> Planes:
    """sRGB colours (3, H, W) as the values in [0, 1] that show them under `profile`."""
    return _converted(rgb, srgb(), profile)


def grey_to_srgb(grey: Planes, profile: bytes) -> Planes:
    """Grey (1, H, W) under `profile` as sRGB's in [0, 1]; as it is if that is none for grey."""
    try:
        seen = _transform(np.ascontiguousarray(grey[0]).clip(0, 1), profile, srgb(), "gray")
    except Exception:
        return grey
    # Red, green and blue of a grey are one.
    return seen[..., 1].clip(0, 1)[None]


def inks_to_srgb(
    inks: npt.NDArray[np.integer[Any]], profile: bytes | None
) -> npt.NDArray[np.float32]:
    """CMYK (H, W, 4) uint8 or uint16, full ink at the largest value, as sRGB (H, W, 3) in [0, 1].

    By the profile, or, where there is none or it is not one for inks, as light that each ink
    takes away.
    """
    if profile:
        try:
            return _transform(inks, profile, srgb(), "cmyk").clip(0, 1)
        except Exception:
            pass
    white = np.float32(np.iinfo(inks.dtype).max)
    light = np.float32(1) - inks.astype(np.float32) / white
    return light[..., :3] * light[..., 3:]


def lab_to_srgb(lab: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """CIE 1976 L* in [0, 100], a*, b* (H, W, 3) under D50 as sRGB in [0, 1]."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    return _transform(lab, profile, srgb(), "lab").clip(0, 1)


def _converted(rgb: Planes, source: bytes, target: bytes) -> Planes:
    pixels = np.ascontiguousarray(rgb.transpose(1, 2, 0)).clip(0, 1)
    return _transform(pixels, source, target, "rgb").clip(0, 1).transpose(2, 0, 1)


def _transform(
    pixels: npt.NDArray[Any], source: bytes, target: bytes, space: Space
) -> npt.NDArray[np.float32]:
    import imagecodecs

    converted = imagecodecs.cms_transform(
        pixels,
        source,
        target,
        colorspace=space,
        outcolorspace="rgb",
        outdtype="float32",
        intent=RELATIVE_COLORIMETRIC,
        flags=BLACK_POINT_COMPENSATION if space == "cmyk" else 0,
    )
    return np.asarray(converted, np.float32)
