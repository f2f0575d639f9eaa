from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from passionsr_cli.imaging import png
from passionsr_cli.metadata.kinds import Metadata


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("strip_px", [1, 7, 50])
def test_libpng_reads_what_was_written(
    tmp_path: Path, depth: int, channels: int, strip_px: int
) -> None:
    random = np.random.default_rng(0)
    # A ramp, whose differences leave the range of bytes, and noise.
    ramp = np.arange(20 * 33 * channels).reshape(20, 33, channels) * (2**depth // 640)
    noise = random.integers(0, 2**depth, (20, 33, channels))
    pixels = np.concatenate([ramp, noise]).astype(f"u{depth // 8}")
    strips = (pixels[top : top + strip_px] for top in range(0, 40, strip_px))
    png.write(tmp_path / "a.png", pixels.shape, depth, Metadata(), strips)
    found = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    assert found.dtype == pixels.dtype
    assert np.array_equal(found.reshape(pixels.shape), pixels)


def test_metadata_is_where_readers_look(tmp_path: Path) -> None:
    pixels = np.zeros((9, 9, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "maker"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    xmp = "<x:xmpmeta>ü</x:xmpmeta>".encode()
    written = Metadata(b"profile", block, xmp)
    png.write(tmp_path / "a.png", pixels.shape, 8, written, iter([pixels]))
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.info["icc_profile"] == b"profile"
        assert image.info["exif"].removeprefix(b"Exif\0\0") == block
        assert image.info["xmp"] == xmp


def test_it_is_not_much_larger_than_pillows(tmp_path: Path) -> None:
    from skimage import data

    pixels = np.asarray(Image.fromarray(data.coffee()).resize((900, 600)))
    png.write(tmp_path / "a.png", pixels.shape, 8, Metadata(), iter([pixels]))
    Image.fromarray(pixels).save(tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size < 1.12 * (tmp_path / "b.png").stat().st_size
