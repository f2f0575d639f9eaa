"""ICC profiles of colours that files name without one.

PNG has cICP, gAMA and cHRM (third edition of the PNG specification, 4.3: in this order of
precedence, an ICC profile before gAMA); AVIF and HEIC have `nclx` (ISO/IEC 14496-12, 12.1.5). The
code points are those of ITU-T H.273. EXIF names sRGB or Adobe RGB by an interoperability index.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from passionsr_cli.errors import ImageError
from passionsr_cli.metadata import png_chunks

D65, DCI = (0.3127, 0.3290), (0.314, 0.351)
# x and y of red, green and blue, and white, by H.273's code point.
PRIMARIES: dict[int, tuple[tuple[float, ...], tuple[float, float]]] = {
    1: ((0.640, 0.330, 0.300, 0.600, 0.150, 0.060), D65),
    5: ((0.640, 0.330, 0.290, 0.600, 0.150, 0.060), D65),
    6: ((0.630, 0.340, 0.310, 0.595, 0.155, 0.070), D65),
    7: ((0.630, 0.340, 0.310, 0.595, 0.155, 0.070), D65),
    9: ((0.708, 0.292, 0.170, 0.797, 0.131, 0.046), D65),
    11: ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), DCI),
    12: ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), D65),
}
# Exponents; the curves of television are those that its screens, and browsers, take for sRGB's.
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
SRGB_CURVES = (1, 6, 13, 14, 15)
HDR_CURVES = {16: "PQ", 18: "HLG"}
# gAMA holds 100,000 times the exponent that a file was encoded with; this one is sRGB's.
GAMMA_UNIT, SRGB_GAMMA = 100_000, 45_455
ADOBE_RGB = ((0.640, 0.330, 0.210, 0.710, 0.150, 0.060), D65, 563 / 256)
EXIF_IFD, EXIF_INTEROP = 0x8769, 0xA005
CURVE_POINTS = 1024
# The boxes before an image's data lie at the start of its file.
HEAD_BYTES = 1 << 16


def png_profile(path: Path) -> bytes | None:
    """The profile that a PNG's chunks amount to; None for sRGB and where there is none."""
    chunks = dict(_colour_chunks(path))
    if b"cICP" in chunks and len(chunks[b"cICP"]) == 4:
        return _by_code_points(path, *chunks[b"cICP"][:2])
    if chunks.keys() & {b"iCCP", b"sRGB"} or len(chunks.get(b"gAMA", b"")) != 4:
        return None
    (encoded,) = struct.unpack(">I", chunks[b"gAMA"])
    named = struct.unpack(">8I", chunks[b"cHRM"]) if len(chunks.get(b"cHRM", b"")) == 32 else ()
    white, primaries = D65, PRIMARIES[1][0]
    if named:
        white = named[0] / GAMMA_UNIT, named[1] / GAMMA_UNIT
        primaries = tuple(value / GAMMA_UNIT for value in named[2:])
    if not encoded or (encoded == SRGB_GAMMA and not named):
        return None
    return _profile(primaries, white, GAMMA_UNIT / encoded)


def _colour_chunks(path: Path) -> list[tuple[bytes, bytes]]:
    found = []
    for kind, content in png_chunks.contents(path):
        if kind == b"IDAT":
            break
        found.append((kind, content))
    return found


def nclx_profile(path: Path) -> bytes | None:
    """The profile that the `nclx` box of an AVIF or HEIC amounts to; None for sRGB or without."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    place = head.find(b"colrnclx")
    if place < 0 or len(head) < place + 12:
        return None
    return _by_code_points(path, *struct.unpack_from(">HH", head, place + 8))


def exif_profile(exif: Any) -> bytes | None:
    """Adobe RGB where the EXIF of an image (Pillow's `Exif`) says R03, as cameras do."""
    # Pillow before 13 fails where the directory is missing.
    if EXIF_INTEROP not in exif.get_ifd(EXIF_IFD):
        return None
    index = exif.get_ifd(EXIF_INTEROP).get(1)
    return _profile(*ADOBE_RGB) if index == "R03" else None


def _by_code_points(path: Path, primaries: int, transfer: int) -> bytes | None:
    if transfer in HDR_CURVES:
        raise ImageError(
            f"{path}: high dynamic range ({HDR_CURVES[transfer]}); save it in standard range first"
        )
    if primaries == 1 and transfer in SRGB_CURVES:
        return None
    if primaries not in PRIMARIES or transfer not in (*SRGB_CURVES, *GAMMAS):
        return None
    return _profile(*PRIMARIES[primaries], GAMMAS.get(transfer))


def _profile(
    primaries: Sequence[float], white: tuple[float, float], gamma: float | None
) -> bytes | None:
    """An ICC profile of these primaries, None if they are none, such as zeros; without an exponent
    its curve is that of sRGB."""
    import imagecodecs

    x = np.linspace(0, 1, CURVE_POINTS)
    light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    curve: dict[str, Any] = {"transferfunction": light.astype(np.float32)}
    if gamma is not None:
        curve = {"gamma": gamma}
    places: dict[str, Any] = {"whitepoint": white, "primaries": tuple(primaries)}
    try:
        return bytes(imagecodecs.cms_profile("rgb", **places, **curve))
    except imagecodecs.CmsError:
        return None
