"""Mutated files are read or refused in one line: no traceback, no hang, no memory taken."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging import profiles
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.system.memory import process_peak_bytes

RNG = np.random.default_rng(0)
LARGEST_PX = 1_000_000
# Of each kind of file; a thousand take a minute.
MUTANTS = int(os.environ.get("PASSIONSR_FUZZ_MUTANTS", "60"))
# libtiff, and older libavif, write to stderr by themselves when such files are damaged.
TALKATIVE = (".tif", ".avif")


def _valid() -> dict[str, bytes]:
    """A small file of every kind, with all the metadata that the kind holds."""
    pixels = RNG.integers(0, 256, (24, 32, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    more = {"exif": exif.tobytes(), "xmp": b"<x/>", "icc_profile": profiles.srgb()}
    files = {}
    for name, mode, options in (
        ("rgb.png", "RGB", more),
        ("palette.png", "P", {"transparency": 1}),
        ("photo.jpg", "RGB", more),
        ("inks.jpg", "CMYK", more),
        ("rgba.webp", "RGBA", more),
        ("rgb.avif", "RGB", more),
        ("grey.gif", "L", {}),
        ("rgb.bmp", "RGB", {}),
        ("fax.tif", "1", {"compression": "group4"}),
        ("jpeg.tif", "RGB", {"compression": "jpeg"}),
        ("rgb.ppm", "RGB", {}),
    ):
        with io.BytesIO() as out:
            image = Image.fromarray(pixels)
            if mode != "RGBA":
                image = image.convert("RGB").convert(mode)
            image.save(out, Image.registered_extensions()[Path(name).suffix], **options)
            files[name] = out.getvalue()
    import imagecodecs

    deep = pixels.astype(np.uint16) * 257
    files["deep.png"] = bytes(imagecodecs.png_encode(deep))
    for name, compression in (("deep.tif", "zlib"), ("lzw.tif", "lzw")):
        with io.BytesIO() as out:
            tifffile.imwrite(
                out, deep, photometric="rgb", extrasamples=["unassalpha"], compression=compression
            )
            files[name] = out.getvalue()
    return files


VALID = _valid()


def _mutants(content: bytes, count: int) -> list[bytes]:
    """Cut, flipped, filled, doubled: the beginning, where sizes stand, more than the rest."""
    mutants = []
    for index in range(count):
        data = bytearray(content)
        reach = len(data) if index % 2 else min(len(data), 200)
        for _ in range(int(RNG.integers(1, 6))):
            place = int(RNG.integers(0, reach))
            kind = int(RNG.integers(0, 5))
            if kind == 0:
                data[place] = int(RNG.integers(0, 256))
            elif kind == 1:
                data[place : place + 4] = b"\xff\xff\xff\xff"
            elif kind == 2:
                data[place : place + 4] = b"\0\0\0\0"
            elif kind == 3:
                data[place:place] = data[place : place + 16]
            else:
                del data[place : place + int(RNG.integers(1, 9))]
        if index % 5 == 0:
            del data[int(RNG.integers(0, len(data))) :]
        mutants.append(bytes(data))
    return mutants


def _read(path: Path) -> tuple[Picture | None, str]:
    try:
        return read_picture(path, LARGEST_PX), ""
    except ImageError as error:
        return None, str(error)


@pytest.mark.parametrize("name", sorted(VALID))
def test_mutated_files_are_read_or_refused(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(VALID[name])
    whole = read_picture(path)
    assert sorted(whole.size) == [24, 32]
    before = process_peak_bytes()
    refused = 0
    for mutant in _mutants(VALID[name], MUTANTS):
        path.write_bytes(mutant)
        started = time.perf_counter()
        picture, error = _read(path)
        if picture is not None:
            assert np.isfinite(picture.rgb).all()
            assert picture.rgb.min() >= 0
            assert picture.rgb.max() <= 1
            assert picture.size[0] * picture.size[1] <= LARGEST_PX
        else:
            refused += 1
            assert error.startswith(str(path))
            assert len(error.splitlines()) == 1
        assert time.perf_counter() - started < 5
    assert refused > 0
    assert process_peak_bytes() - before < 300e6
    if path.suffix not in TALKATIVE:
        assert capfd.readouterr().err == ""
