"""Image files from strips of rows."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from passionsr_cli.errors import OutputError
from passionsr_cli.imaging import heif, png, tiff
from passionsr_cli.metadata import iptc_records
from passionsr_cli.metadata.exif_blocks import PREFIX
from passionsr_cli.metadata.kinds import Metadata
from passionsr_cli.pixels.strips import STRIP_PX
from passionsr_cli.system.files import replace_atomically, write_memory
from passionsr_cli.system.memory import free_bytes

# What each format is written with; PNG and TIFF are written by strips, the others by Pillow.
OUTPUT_FORMATS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "quality": 95},
    ".tif": {},
    ".tiff": {},
    ".avif": {"format": "AVIF", "quality": 90, "subsampling": "4:4:4"},
    ".heic": {"format": "HEIF", "quality": 90, "chroma": 444},
    ".bmp": {"format": "BMP"},
}
# Pillow's names for 1 to 4 channels.
MODES = ("L", "LA", "RGB", "RGBA")
DEEP = (".png", ".tif", ".tiff")
JPEG = (".jpg", ".jpeg")
NO_ALPHA = (".jpg", ".jpeg", ".bmp")
# Of all metadata these hold the resolution.
RESOLUTION_ALONE = (".bmp",)
LARGEST_SIDE_PX = {".jpg": 65535, ".jpeg": 65535, ".webp": 16383, ".avif": 65536, ".heic": 65535}
# What Pillow's pictures and their encoders take of memory, measured with noisy photographs.
ENCODING_BYTES_PER_PX = {".bmp": 9, ".jpg": 7, ".jpeg": 7, ".webp": 22, ".avif": 44, ".heic": 43}
# A JPEG holds each in one segment.
LARGEST_JPEG_BLOCK = 65533 - 29


@dataclass(frozen=True)
class Layout:
    """Layout of an image file: `size` is (width, height), `channels` 1 … 4 with alpha last."""

    size: tuple[int, int]
    channels: int
    depth: int
    metadata: Metadata

    @property
    def has_alpha(self) -> bool:
        """True if the last channel is opacity."""
        return self.channels in (2, 4)


def check_output(path: Path, layout: Layout | None = None, keep_depth: bool = False) -> None:
    """Refuse, before any work, an output format that cannot hold the picture.

    Fewer bits per channel are no reason unless `keep_depth`.
    """
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        known = ", ".join(OUTPUT_FORMATS)
        raise OutputError(
            f"{path}: cannot write '{suffix or 'no suffix'}' files; use one of {known}"
        )
    if suffix == ".heic" and not heif.plugged_in():
        raise OutputError(f"{path}: HEIC needs a plugin; {heif.HOW_TO_INSTALL}")
    if layout is None:
        return
    if layout.has_alpha and suffix in NO_ALPHA:
        raise OutputError(f"{path}: {suffix} holds no transparency, the input has it; use .png")
    if keep_depth and layout.depth > 8 and suffix not in DEEP:
        raise OutputError(f"{path}: {suffix} holds 8 bits per channel; use .png or .tif")
    largest = LARGEST_SIDE_PX.get(suffix)
    if largest and max(layout.size) > largest:
        width, height = layout.size
        raise OutputError(
            f"{path}: {width}×{height} px, but a side of a {suffix} has at most {largest}; use .png"
        )
    needed = ENCODING_BYTES_PER_PX.get(suffix, 0) * layout.size[0] * layout.size[1]
    if needed > (free := free_bytes("cpu")):
        raise OutputError(
            f"{path}: to encode it as {suffix} takes about {needed / 1e9:.1f} GB of memory, "
            f"{free / 1e9:.1f} GB are free; use .png or .tif, which are written row by row"
        )
    metadata = layout.metadata
    blocks = (metadata.exif or b"", metadata.xmp or b"", metadata.iptc or b"")
    if suffix in JPEG and max(map(len, blocks)) > LARGEST_JPEG_BLOCK:
        raise OutputError(
            f"{path}: its EXIF, XMP or IPTC is larger than a JPEG can hold; "
            "use .png or --strip-metadata"
        )


def write(
    path: Path,
    layout: Layout,
    strips: Iterable[npt.NDArray[np.float32]],
    quality: int | None = None,
    whole: Callable[[Path], None] = lambda temporary: None,
) -> None:
    """Write strips (C, h, W) in [0, 1], `STRIP_PX` high but for the last, as an image file.

    `quality`, 1 to 100, is for formats that lose something; others ignore it. `whole` is called
    with the path of the whole file before it gets its name.

    On any failure no half file remains. Raises `OutputError`.
    """
    check_output(path, layout)
    suffix, (width, height) = path.suffix.lower(), layout.size
    shape = (height, width, layout.channels)
    depth = layout.depth if suffix in DEEP else 8
    rows = _quantized(strips, depth)
    try:
        with replace_atomically(path, whole) as temporary:
            if suffix == ".png":
                png.write(temporary, shape, depth, layout.metadata, rows)
            elif suffix in DEEP:
                tiff.write(temporary, shape, depth, layout.metadata, rows, STRIP_PX)
            else:
                _write_whole(temporary, path, shape, layout.metadata, rows, quality)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(f"{path}: the disk is full; free space or give --output") from None
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None


def _quantized(strips: Iterable[npt.NDArray[np.float32]], depth: int) -> Iterator[npt.NDArray[Any]]:
    """Strips as (h, W, C) integers."""
    white = np.float32(2**depth - 1)
    for strip in strips:
        levels = np.rint(strip * white).clip(0, white)
        yield np.ascontiguousarray(levels.transpose(1, 2, 0), f"u{depth // 8}")


def _write_whole(
    temporary: Path,
    path: Path,
    shape: tuple[int, int, int],
    metadata: Metadata,
    strips: Iterator[npt.NDArray[Any]],
    quality: int | None,
) -> None:
    """By Pillow, whose encoders want the whole image, one byte per channel."""
    from PIL import Image

    height, width, channels = shape
    image, top = Image.new(MODES[channels - 1], (width, height)), 0
    for strip in strips:
        image.paste(Image.fromarray(strip.squeeze(-1) if channels == 1 else strip), (0, top))
        top += len(strip)
    suffix, encoded = path.suffix.lower(), io.BytesIO()
    options = {**OUTPUT_FORMATS[suffix], **_options(metadata, suffix)}
    if quality is not None and "quality" in options:
        options["quality"] = quality
    try:
        image.save(encoded, **options)
    except Exception as error:
        # Some encoders parse the metadata that they are given.
        reason = " ".join(str(error).split())
        raise OutputError(
            f"{path}: cannot be encoded ({reason}); try .png or --strip-metadata"
        ) from None
    # By itself Pillow does not notice that a full disk took a part alone.
    write_memory(temporary, encoded)


def _options(metadata: Metadata, suffix: str) -> dict[str, Any]:
    """Metadata as Pillow's encoders take it."""
    if suffix in RESOLUTION_ALONE:
        # Without it Pillow would make one up.
        return {"dpi": metadata.resolution or (0, 0)}
    jpeg = suffix in JPEG
    exif = metadata.exif if jpeg else metadata.exif_with_resolution()
    options = {
        "icc_profile": metadata.icc_profile,
        "exif": exif and PREFIX + exif,
        "xmp": metadata.xmp,
        "dpi": metadata.resolution if jpeg else None,
        "extra": iptc_records.jpeg_segment(metadata.iptc) if jpeg and metadata.iptc else None,
    }
    return {name: value for name, value in options.items() if value}
