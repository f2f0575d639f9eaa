"""An upscaler for Python programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError, ImageError, OutputError
from passionsr_cli.imaging.files import picture_of
from passionsr_cli.imaging.finishing import finished
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.layering import validate
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.transparency import spread_colours
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.images import Done, artifact_for, open_upscaler, upscale_file
from passionsr_cli.upscaling.planning import Job
from passionsr_cli.upscaling.run import fingerprint
from passionsr_cli.upscaling.sizing import TargetSize

if TYPE_CHECKING:
    from torch import Tensor

AnyImage = TypeVar("AnyImage", "Image.Image", "npt.NDArray[Any]", "Tensor")
WHITE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
# Of Pillow's modes, those that it would cut at 255.
DEEP_MODES = ("I", "F", "I;16B", "I;16L", "I;16N")
# Fields of the settings that say which files are worked on, and where results go.
OF_FILES = ("output", "name", "format", "recursive", "overwrite", "skip_existing", "engine")
# How far beyond [0, 1] resampling may overshoot; what is further off is on another scale.
OVERSHOOT = 0.5


class Upscaler:
    """A model that is loaded once, for images of any size: Pillow's, arrays, tensors, files.

        with Upscaler(checkpoint="mini-w6a6-passionsr") as upscaler:
            large = upscaler.upscale(Image.open("photo.jpg"))

    Options are the fields of `UpscaleSettings` that say how an image is made. Several threads may
    use one at a time: they take turns at the model, while other work, such as reading and writing,
    overlaps. Raises `PassionSRError` where model, device or precision cannot be had.
    """

    def __init__(self, *, reporter: Reporter = SILENT, **options: Any) -> None:
        of_files = [name for name in OF_FILES if name in options]
        if of_files:
            raise ConfigError(
                f"Upscaler: {of_files[0]} is an option for folders of files; it makes single "
                "images, use `passionsr_cli.upscale` instead"
            )
        self._settings = validate(options, UpscaleSettings, "Upscaler")
        self._made_by = fingerprint(artifact_for(self._settings), self._settings)
        self._upscaler: TiledUpscaler | None = open_upscaler(self._settings, reporter)

    def upscale(self, image: AnyImage) -> AnyImage:
        """The image, larger, as the same kind of object.

        - Pillow images: RGB, RGBA, L, LA and I;16 stay so, others of 8 bits become one of these;
          with a colour that is transparent they get an alpha band. They are turned upright, as
          EXIF or XMP say, and keep their ICC profile; all else that they know stays behind.
        - Arrays (H, W) or (H, W, C) with 1 to 4 channels, alpha last: uint8, uint16, or floating
          point in [0, 1].
        - Tensors (C, H, W) or (B, C, H, W) likewise, on any device, uint8 or floating point in
          [0, 1]; the result is without gradients.

        Masks of arrays are not heeded. Raises `ImageError` for any other.
        """
        if isinstance(image, Image.Image):
            return self._image(image)
        if isinstance(image, np.ndarray):
            return self._array(image)
        if _is_tensor(image):
            return self._tensor(image)
        raise ImageError(
            f"a {type(image).__name__}, expected an image of Pillow's, an array or a tensor"
        )

    def upscale_file(self, source: str | Path, output: str | Path) -> Done:
        """Upscale an image file, or `sample:NAME`, as the command does; a large one is never whole
        in memory. Replaces `output`, unless that is the source; it is written whole or not at
        all. After a kill it goes on."""
        if os.path.realpath(source) == os.path.realpath(output):
            raise OutputError(f"{output}: the result would replace its own input")
        job = Job(str(source), Path(output))
        return upscale_file(self._ready(), job, self._settings, made_by=self._made_by)

    def close(self) -> None:
        """Give the model's memory back."""
        self._upscaler = None

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ready(self) -> TiledUpscaler:
        if self._upscaler is None:
            raise ConfigError("this upscaler is closed; make another")
        return self._upscaler

    def _image(self, image: Image.Image) -> Image.Image:
        if image.mode in DEEP_MODES:
            raise ImageError(f"an image of mode {image.mode}, expected 8 bits per channel or I;16")
        if image.mode == "I;16" and image.has_transparency_data:
            raise ImageError("an I;16 with a level that is transparent, expected one without")
        picture = picture_of(image)
        kind = np.dtype(np.uint16 if picture.depth > 8 else np.uint8)
        levels = _interleaved(self._enlarged(picture), kind)
        large = Image.fromarray(levels if levels.shape[2] > 1 else levels[..., 0])
        if picture.metadata.icc_profile:
            large.info["icc_profile"] = picture.metadata.icc_profile
        return large

    def _array(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        planes = image[..., None] if image.ndim == 2 else image
        if planes.ndim != 3 or not 1 <= planes.shape[2] <= 4:
            raise ImageError(f"an array {image.shape}, expected (H, W) or (H, W, 1 to 4)")
        white = _white(image.dtype)
        values = np.ascontiguousarray(planes, np.float32).transpose(2, 0, 1)
        large = _interleaved(self._planes(values / np.float32(white)), image.dtype)
        return large.reshape(*large.shape[:2], *image.shape[2:])

    def _tensor(self, image: Tensor) -> Tensor:
        import torch

        if image.is_nested or image.is_meta or image.layout != torch.strided:
            raise ImageError("a nested, sparse or meta tensor, expected a dense one")
        if image.ndim not in (3, 4) or not 1 <= image.shape[-3] <= 4:
            shape = tuple(image.shape)
            raise ImageError(f"a tensor {shape}, expected (1 to 4, H, W) or (B, 1 to 4, H, W)")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ImageError(f"a tensor of {image.dtype}, expected uint8, or floats in [0, 1]")
        if image.ndim == 4:
            if not len(image):
                width, height = self._size_of((image.shape[3], image.shape[2]))
                return image.new_empty((0, image.shape[1], height, width))
            return torch.stack([self._tensor(each) for each in image])
        white = 255 if image.dtype == torch.uint8 else 1
        planes = image.detach().cpu().float() / white
        large = torch.from_numpy(self._planes(planes.numpy())) * white
        return (large.round() if white > 1 else large).to(image.device, image.dtype)

    def _planes(self, planes: Array) -> Array:
        """(C, h, w) in [0, 1] to (C, H, W), where C is grey or RGB, then alpha if it is even."""
        if not planes.size:
            raise ImageError(f"an image of {planes.shape[2]}×{planes.shape[1]} px holds no pixels")
        _check_range(planes)
        shape = (3, *planes.shape[1:])
        colours = np.broadcast_to(planes[: len(planes) - 1 + len(planes) % 2], shape)
        alpha = planes[-1:] if len(planes) % 2 == 0 else None
        if alpha is not None:
            colours = spread_colours(colours, alpha)
        return self._enlarged(Picture(colours, alpha, grey=len(planes) <= 2))

    def _enlarged(self, picture: Picture) -> Array:
        """(C, H, W), as `finished` gives them."""
        size = self._size_of(picture.size)
        large = self._ready().upscale(picture.rgb).rgb
        strips = finished([large], (large.shape[2], large.shape[1]), picture, size)
        return np.concatenate(list(strips), 1)

    def _size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        return TargetSize.of(self._settings).of_input(size, self._ready().factor)


def _interleaved(planes: Array, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """(C, H, W) in [0, 1] as a contiguous (H, W, C) of this kind, as other libraries want it."""
    white = _white(kind)
    levels = planes.transpose(1, 2, 0) * np.float32(white)
    return (levels.round() if white > 1 else levels).astype(kind, order="C")


def _is_tensor(image: object) -> bool:
    """Recognise a tensor; where torch was never imported there is none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def _check_range(planes: Array) -> None:
    low, high = planes.min(), planes.max()
    # Not a number is in no range.
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
        raise ImageError(f"values from {low:g} to {high:g}, expected floats in [0, 1]")


def _white(kind: np.dtype[Any]) -> int:
    if kind.newbyteorder("=") not in WHITE and not np.issubdtype(kind, np.floating):
        raise ImageError(f"an array of {kind}, expected uint8, uint16, or floats in [0, 1]")
    return WHITE.get(kind.newbyteorder("="), 1)
