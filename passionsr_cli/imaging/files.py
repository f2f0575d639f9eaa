"""Image files to pictures and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

# Unlike those of `Path`, these take names that are too long.
from os.path import exists, isdir
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging import encoding, profiles, samples
from passionsr_cli.imaging.decoding import (
    LARGEST_PX,
    Decoded,
    decode,
    decode_image,
    upright_size,
)
from passionsr_cli.imaging.encoding import Layout, check_output
from passionsr_cli.imaging.finishing import finished
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.metadata.kinds import Metadata
from passionsr_cli.pixels.arrays import Array, rounded_levels
from passionsr_cli.pixels.strips import strips_of
from passionsr_cli.pixels.transparency import spread_colours

__all__ = (
    "IMAGE_SUFFIXES",
    "check_output",
    "layout_of",
    "picture_of",
    "read_picture",
    "read_rgb",
    "size_of",
    "write_picture",
    "write_upscaled",
)

IMAGE_EXTENSIONS = "png jpg jpeg jpe jfif webp tif tiff bmp gif avif heic heif hif ppm pgm pbm pnm"
IMAGE_SUFFIXES = tuple(f".{name}" for name in IMAGE_EXTENSIONS.split())
# What lies in them undeveloped is not a picture yet, and the pictures beside it are previews.
RAW_EXTENSIONS = "dng cr2 cr3 nef nrw arw orf rw2 raf pef srw"
RAW_SUFFIXES = tuple(f".{name}" for name in RAW_EXTENSIONS.split())


def read_picture(source: str | Path, largest_px: int = LARGEST_PX) -> Picture:
    """The picture of a file, or of `sample:NAME`, upright, in sRGB, as `Picture` describes it.

    One of more than `largest_px` pixels is refused before memory is taken for it. Raises
    `ImageError`, naming the file, for whatever cannot be read.
    """
    if samples.is_sample(source):
        return Picture(samples.low_resolution(str(source)))
    if exists(source) and Path(source).suffix.lower() in RAW_SUFFIXES:
        raise ImageError(f"{source}: a camera's raw file; develop it to a TIFF or JPEG first")
    with _faults_named(source):
        return _to_picture(decode(Path(source), largest_px))


def size_of(source: str | Path) -> tuple[int, int]:
    """(width, height) of an image file as it will be read, from its header alone.

    Raises `ImageError`, naming the file, for whatever cannot be read.
    """
    with _faults_named(source):
        return upright_size(Path(source))


@contextmanager
def _faults_named(source: str | Path) -> Iterator[None]:
    """Raise `ImageError`, naming the file, for whatever decoders raise."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{source}: a folder, expected an image file") from None
    except PermissionError:
        raise ImageError(f"{source}: no permission to read it") from None
    except UnidentifiedImageError:
        raise ImageError(f"{source}: not an image file that can be read") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{source}: too large to be opened safely") from None
    except MemoryError:
        raise ImageError(f"{source}: not enough memory to open it") from None
    except Exception as error:
        # Decoders fail in more ways on damaged files than their documentation names.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{source}: damaged or unreadable ({reason})") from None


def picture_of(image: Image.Image) -> Picture:
    """The picture of an image of Pillow's, as of a file that holds it. Raises `ImageError`."""
    try:
        return _to_picture(decode_image(image))
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"an image of mode {image.mode} that cannot be read ({reason})") from None


def read_rgb(source: str | Path, largest_px: int = LARGEST_PX) -> npt.NDArray[np.uint8]:
    """A picture as (3, H, W) uint8, to be looked at or learned from: transparency is dropped."""
    return rounded_levels(read_picture(source, largest_px).rgb)


def _to_picture(decoded: Decoded) -> Picture:
    planes = np.ascontiguousarray(decoded.pixels.transpose(2, 0, 1))
    if not planes.size:
        raise ValueError("it holds no pixels")
    grey = len(planes) <= 2
    metadata = decoded.metadata
    if grey and metadata.icc_profile:
        # Not kept: most containers hold RGB, for which a profile of grey is none.
        planes[:1] = profiles.grey_to_srgb(planes[:1], metadata.icc_profile)
        metadata = replace(metadata, icc_profile=None)
    rgb = planes[:1].repeat(3, axis=0) if grey else planes[:3]
    alpha = planes[-1:].copy() if len(planes) in (2, 4) else None
    if alpha is not None:
        rgb = spread_colours(rgb, alpha)
    profile, beyond = metadata.icc_profile, None
    if profile and profiles.needs_conversion(profile):
        seen = profiles.to_srgb(rgb, profile)
        beyond = rgb - profiles.from_srgb(seen, profile)
        rgb = np.ascontiguousarray(seen)
    return Picture(rgb, alpha, grey, decoded.depth, metadata, beyond, decoded.note)


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture as it is; on any failure no half file remains."""
    write_upscaled(path, picture, strips_of(picture.rgb), picture.size, picture.size)


def layout_of(picture: Picture, size: tuple[int, int], depth: int | None = None) -> Layout:
    """Layout of a file of `picture`, upscaled to `size` (width, height)."""
    channels = (1 if picture.grey else 3) + (picture.alpha is not None)
    metadata = picture.metadata.of_result(picture.size, size)
    return Layout(size, channels, depth or picture.depth, metadata)


def write_upscaled(
    path: Path,
    picture: Picture,
    strips: Iterable[Array],
    strips_size: tuple[int, int],
    size: tuple[int, int],
    depth: int | None = None,
    quality: int | None = None,
    whole: Callable[[Path], None] = lambda temporary: None,
) -> None:
    """Write `picture` at `size` (width, height), its colours from `strips` (see `finished`).

    `depth` is that of the picture unless given, `quality` (1 to 100) the format's default. `whole`
    is called with the path of the whole file before it gets its name. On any failure no half file
    remains.
    """
    if path.suffix.lower() in encoding.RESOLUTION_ALONE:
        kept = Metadata(resolution=picture.metadata.resolution)
        picture = replace(picture.stripped(), metadata=kept)
    layout = layout_of(picture, size, depth)
    encoding.write(path, layout, finished(strips, strips_size, picture, size), quality, whole)


def is_image(path: Path) -> bool:
    """Tell whether a name is that of an image; what is behind it shows when it is read."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def images_in(folder: Path, option: str = "--images") -> list[Path]:
    """The image files of a folder that an option names. Raises `ImageError` if it has none."""
    if not isdir(folder):
        what = "a file, not a folder" if exists(folder) else "no such folder"
        raise ImageError(f"{folder}: {what}; {option} names a folder of images")
    files = find_images(folder)
    if not files:
        raise ImageError(f"{folder}: no images in this folder; {option} needs some")
    return files


def find_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; hidden files are left out."""
    return sorted(path for path in folder.iterdir() if is_image(path) and path.is_file())
