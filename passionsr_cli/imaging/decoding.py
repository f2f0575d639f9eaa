"""Pixels and metadata out of image files, whatever they hold."""

from __future__ import annotations

import contextlib
import stat
import zlib
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging import heif, netpbm, profiles, soundness, tiff, tiff_colours
from passionsr_cli.imaging.deep import png_depth, read_deep, scaled
from passionsr_cli.imaging.png import SIGNATURE
from passionsr_cli.metadata import (
    colour_tags,
    exif_blocks,
    iptc_records,
    jpeg_segments,
    png_chunks,
    tiff_tags,
)
from passionsr_cli.metadata.exif_blocks import CM_PER_INCH, PREFIX
from passionsr_cli.metadata.iptc_records import IPTC
from passionsr_cli.metadata.kinds import LYING, Metadata
from passionsr_cli.pixels.arrays import turn_upright

# What Pillow may try. Others run programs (EPS), or are no photographs.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "PPM")
# Formats whose further frames are an animation, not previews or depth maps of the first.
ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
LARGEST_PX = 100_000_000
DEEP_GREY_MODES = ("I", "I;16", "I;16B", "I;16L")
GREY_MODES = ("1", "L", "LA", *DEEP_GREY_MODES)
# Pillow's names for grey of fewer bits.
GREY_BITS = {"L;2": 2, "L;4": 4}
JFIF_INCH = 1
JFIF_UNITS = {JFIF_INCH: 1.0, 2: CM_PER_INCH}
# Formats that say the resolution themselves, apart from EXIF.
SAYING_RESOLUTION = ("PNG", "BMP")
LACKS_END = "lacks its end, though no pixel; read as it is"
JPEGS = ("JPEG", "MPO")
JPEG_MAGIC = b"\xff\xd8\xff"
# An editor's XMP may be longer than the 1 MB that Pillow grants one text.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


@dataclass(frozen=True)
class Decoded:
    """Pixels (H, W, C), upright: grey or RGB, then alpha if there is one; white is 1.0.

    float32 in [0, 1]. `depth` is 8 or 16. A profile that does not describe these values, such
    as that of CMYK, is not in the metadata. `note` is what a person should know of the file.
    """

    pixels: npt.NDArray[np.float32]
    depth: int
    metadata: Metadata
    note: str | None = None


def decode(path: Path, largest_px: int = LARGEST_PX) -> Decoded:
    """Decode an image file of at most `largest_px` pixels.

    Raises `ImageError`, or anything that decoders raise. No memory is taken for a larger image.
    """
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise ImageError(f"{path}: not a regular file, expected an image file")
    with path.open("rb") as file:
        start = file.read(32)
    number, metadata = 0, Metadata()
    if start.startswith(tiff.MAGIC):
        photograph = tiff.find_photograph(path, largest_px)
        metadata = tiff_tags.read(path, photograph.number, photograph.place)
        if photograph.deep is not None:
            return _from_deep_tiff(photograph.deep, metadata)
        number = photograph.number
    # Not of the path: Pillow would map a TIFF's pixels as the rows that it has after turning.
    with path.open("rb") as file, Image.open(file, formats=_formats(path, start)) as image:
        if image.format in ANIMATIONS and getattr(image, "is_animated", False):
            frames = getattr(image, "n_frames", 2)
            raise ImageError(f"{path}: an animation of {frames} frames; save those to upscale")
        if image.format == "TIFF":
            image.seek(number)
        tiff.check_size(path, *image.size, largest_px)
        if not _can_be_whole(path, image):
            raise ImageError(f"{path}: damaged: it ends before its last row")
        loaded, note = _loaded(path, image)
        if loaded.format == "TIFF":
            # Pillow has turned it.
            return _finished(*_pixels(loaded), metadata.upright(), loaded.mode)
        metadata = _metadata(loaded, _profile(path, loaded))
        if (pixels := read_deep(path, loaded)) is not None:
            return _finished(pixels, 16, metadata, loaded.mode)
        if loaded.format == "PNG":
            _spread_level(loaded, png_depth(path))
        if loaded.format == "PPM" and (deep := netpbm.read_deep(path)) is not None:
            return Decoded(deep, 16, metadata)
        return replace(_finished(*_pixels(loaded), metadata, loaded.mode), note=note)


def decode_image(image: Image.Image) -> Decoded:
    """Decode an image of Pillow's, opened or made, which may have no file. Raises anything that
    decoders raise."""
    # What is loaded already says no more how many bits it had.
    tile = next(iter(getattr(image, "tile", ())), None)
    image.load()
    if image.format == "PNG" and tile is not None:
        _spread_level(image, GREY_BITS.get(str(tile[3]), 8))
    metadata = _metadata(image, _own_profile(image))
    if image.format == "TIFF":
        # Pillow has turned it.
        metadata = metadata.upright()
    # Pillow converts what is premultiplied to no other mode of grey.
    plain = image.convert("LA") if image.mode == "La" else image
    return _finished(*_pixels(plain), metadata, plain.mode)


def _spread_level(image: Image.Image, depth: int) -> None:
    """Pillow spreads grey over 8 bits, but not the level that is transparent."""
    if depth in (2, 4) and image.mode == "L" and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2**depth - 1)


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image file as `decode` gives it, from its metadata alone."""
    with path.open("rb") as file:
        start = file.read(32)
    if start.startswith(tiff.MAGIC):
        return tiff.upright_size(path)
    with path.open("rb") as file, Image.open(file, formats=_formats(path, start)) as image:
        if image.format == "PNG" and "exif" not in image.info:
            # It may stand behind the pixels.
            chunks = png_chunks.contents(path)
            image.info["exif"] = next((held for kind, held in chunks if kind == b"eXIf"), b"")
        lying = _metadata(image, None).orientation >= LYING
        return (image.height, image.width) if lying else image.size


def _can_be_whole(path: Path, image: Image.Image) -> bool:
    """Tell whether the file holds what its header says, as far as that shows without decoding."""
    if image.format == "PNG":
        return soundness.png_is_whole(path)
    if image.format in JPEGS:
        return soundness.jpeg_can_hold(path, *image.size)
    if image.format == "GIF":
        return soundness.gif_can_hold(path, *image.size)
    if image.format == "AVIF":
        return soundness.avif_is_so_large(path)
    return True


def _loaded(path: Path, image: Image.Image) -> tuple[Image.Image, str | None]:
    """An image with its pixels, and a note on a JPEG that lacks its end but no pixel."""
    if image.format not in JPEGS:
        soundness.refuse_early_end(image)
        image.load()
        return image, None
    # Decoders make something up for missing pixels, from whatever follows: if two fillings come
    # to the same picture, none is missing.
    content = path.read_bytes()
    closed = jpeg_segments.closed(content)
    filled = zlib.crc32(_jpeg(soundness.jpeg_filled(closed)).tobytes())
    image = _jpeg(closed)
    if zlib.crc32(image.tobytes()) != filled:
        raise ImageError(f"{path}: damaged: it ends before its last row")
    return image, None if closed is content else LACKS_END


def _jpeg(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content), formats=["JPEG"])


def _formats(path: Path, start: bytes) -> list[str]:
    """The formats of this installation; HEIC is read by a plugin of Pillow's."""
    if start[4:8] == b"ftyp" and start[8:12] in heif.BRANDS and not heif.plugged_in():
        raise ImageError(f"{path}: HEIC needs a plugin; {heif.HOW_TO_INSTALL}")
    for magic, names in ((SIGNATURE, ("PNG",)), (JPEG_MAGIC, JPEGS)):
        if start.startswith(magic):
            # To load all other plugins of Pillow's takes longer than to decode a small photograph.
            Image.preinit()
            return list(names)
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _metadata(image: Image.Image, profile: bytes | None) -> Metadata:
    exif, xmp = (image.info.get(kind) or _in_text(image, kind) for kind in ("exif", "xmp"))
    block = exif.removeprefix(PREFIX) or None if isinstance(exif, bytes) else None
    # Pillow gives what lies in Photoshop's part of a JPEG by number, or nothing.
    resources = image.info.get("photoshop")
    iptc = resources.get(IPTC) if isinstance(resources, dict) else None
    return Metadata(
        profile,
        block,
        (xmp.encode() if isinstance(xmp, str) else xmp) or None,
        iptc or iptc_records.in_resources(_in_text(image, "iptc")),
        _resolution(image, block),
    )


def _in_text(image: Image.Image, kind: str) -> bytes:
    """Metadata that ImageMagick puts into a PNG's text: its kind, its length, and digits."""
    text = image.info.get(f"Raw profile type {kind}")
    with contextlib.suppress(ValueError):
        return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else b""
    return b""


def _resolution(image: Image.Image, exif: bytes | None) -> tuple[float, float] | None:
    """Pixels per inch, as the container says them, else EXIF."""
    if "jfif_unit" in image.info:
        (across, down), unit = image.info["jfif_density"], image.info["jfif_unit"]
    elif "dpi" in image.info and image.format in SAYING_RESOLUTION:
        (across, down), unit = image.info["dpi"], JFIF_INCH
    else:
        across, down, unit = 0, 0, 0
    found = exif_blocks.per_inch(across, down, JFIF_UNITS[unit]) if unit in JFIF_UNITS else None
    return found or (exif_blocks.resolution(exif) if exif else None)


def _profile(path: Path, image: Image.Image) -> bytes | None:
    """The profile of an image, or of what else its file says of its colours."""
    profile = _own_profile(image)
    if image.format == "PNG":
        return colour_tags.png_profile(path) or profile
    if profile is None and image.format in ("AVIF", "HEIF"):
        return colour_tags.nclx_profile(path)
    return profile


def _own_profile(image: Image.Image) -> bytes | None:
    """The profile of an image, as Pillow knows it."""
    profile: bytes | None = image.info.get("icc_profile") or None
    if profile is None and image.mode == "RGB" and image.format in ("JPEG", "MPO"):
        return colour_tags.exif_profile(image.getexif())
    return profile


def _pixels(image: Image.Image) -> tuple[npt.NDArray[np.float32], int]:
    """Pixels as `Decoded` has them, and their depth, of what Pillow reads well."""
    if image.mode in DEEP_GREY_MODES:
        # Pillow's own conversion clips 16-bit grey at 255.
        levels = np.asarray(image).astype(np.float32) / 65535
        return levels.clip(0, 1)[..., None], 16
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white; convert to 8 or 16 bits")
    if image.mode == "CMYK":
        return profiles.inks_to_srgb(np.asarray(image), image.info.get("icc_profile")), 8
    transparent = image.has_transparency_data
    grey = image.mode in GREY_MODES
    mode = {(1, 0): "L", (1, 1): "LA", (0, 0): "RGB", (0, 1): "RGBA"}[grey, transparent]
    if grey and transparent and image.mode != "LA":
        # Only RGBA takes a grey level that is transparent.
        return scaled(np.asarray(image.convert("RGBA"))[..., [0, 3]], 255), 8
    values = np.asarray(image if image.mode == mode else image.convert(mode))
    return scaled(values, 255), 8


def _from_deep_tiff(deep: tiff_colours.DeepPixels, metadata: Metadata) -> Decoded:
    values = deep.pixels[..., : deep.colours + deep.has_alpha]
    names = {tiff_colours.SEPARATED: "CMYK", **dict.fromkeys(tiff_colours.LAB, "LAB")}
    mode = names.get(deep.photometric)
    if mode == "CMYK":
        pixels = profiles.inks_to_srgb(values[..., :4], metadata.icc_profile)
    elif mode == "LAB":
        pixels = profiles.lab_to_srgb(deep.lab)
    else:
        pixels = scaled(values[..., : deep.colours], deep.white)
    if deep.has_alpha:
        pixels = np.concatenate([pixels, scaled(values[..., -1:], deep.white)], axis=-1)
    if deep.premultiplied:
        pixels[..., :-1] /= np.maximum(pixels[..., -1:], 1 / deep.white)
        pixels = pixels.clip(0, 1)
    turned = turn_upright(pixels, deep.orientation)
    kept = metadata.upright()
    return _finished(turned, deep.depth, kept, mode or "")


def _finished(
    pixels: npt.NDArray[np.float32], depth: int, metadata: Metadata, mode: str
) -> Decoded:
    if mode in ("CMYK", "LAB"):
        metadata = replace(metadata, icc_profile=None)
    return Decoded(turn_upright(pixels, metadata.orientation), depth, metadata.upright())
