from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from passionsr_cli import Done, PassionSRError, Upscaler
from passionsr_cli.imaging import samples
from passionsr_cli.pixels.arrays import rounded_levels

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def upscaler(tiny_folder: Path) -> Iterator[Upscaler]:
    with Upscaler(model=str(tiny_folder), backend="torch", precision="fp32") as opened:
        yield opened


def _photograph(mode: str = "RGB") -> Image.Image:
    pixels = rounded_levels(samples.low_resolution("sample:coffee")[:, :24, :32])
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    if mode in ("RGBA", "LA"):
        image.putalpha(image.convert("L").rotate(90))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_images_arrays_tensors_and_files_become_the_same(
    upscaler: Upscaler, mode: str, tmp_path: Path
) -> None:
    image = _photograph(mode)
    large = upscaler.upscale(image)
    assert (large.mode, large.size) == (mode, (128, 96))
    pixels = np.asarray(image)
    array = upscaler.upscale(pixels)
    assert np.array_equal(array, np.asarray(large))
    # As OpenCV and `memoryview.cast` want it.
    assert array.flags.c_contiguous
    planes = torch.from_numpy(pixels.copy().reshape(24, 32, -1)).permute(2, 0, 1)
    found = upscaler.upscale(planes)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.permute(1, 2, 0).squeeze(-1).numpy(), np.asarray(large))
    image.save(tmp_path / "a.png")
    done = upscaler.upscale_file(tmp_path / "a.png", tmp_path / "b.png")
    assert isinstance(done, Done)
    difference = np.asarray(Image.open(tmp_path / "b.png")).astype(int) - np.asarray(large)
    assert np.abs(difference[..., : 3 if mode == "RGB" else 1]).max() <= 1


def test_values_keep_their_kind_and_their_depth(upscaler: Upscaler) -> None:
    exact = np.asarray(_photograph()) / np.float64(255)
    large = upscaler.upscale(exact)
    assert large.dtype == np.float64
    deep = upscaler.upscale((exact * 65535).round().astype(np.uint16))
    assert deep.dtype == np.uint16
    assert np.abs(deep / 65535 - large).max() < 2e-3
    assert len(np.unique(deep)) > 256
    other = upscaler.upscale((exact * 65535).round().astype(">u2"))
    assert other.dtype == np.dtype(">u2")
    assert np.array_equal(other, deep)
    batch = torch.from_numpy(exact).permute(2, 0, 1).half().expand(2, -1, -1, -1)
    found = upscaler.upscale(batch)
    assert (found.shape, found.dtype) == ((2, 3, 96, 128), torch.float16)
    none = upscaler.upscale(batch[:0])
    assert (none.shape, none.dtype) == ((0, 3, 96, 128), torch.float16)


def test_pillows_other_modes_lose_nothing_they_hold(upscaler: Upscaler) -> None:
    grey = _photograph("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    difference = np.asarray(upscaler.upscale(deep)) / 257 - np.asarray(upscaler.upscale(grey))
    assert np.abs(difference).max() <= 1
    palette = _photograph().quantize(8)
    palette.info["transparency"] = 0
    assert upscaler.upscale(palette).mode == "RGBA"
    for image, mode in ((_photograph(), "RGBA"), (grey, "LA")):
        image.info["transparency"] = image.getpixel((0, 0))
        large = upscaler.upscale(image)
        assert (large.mode, large.getpixel((0, 0))[-1]) == (mode, 0)
    assert upscaler.upscale(_photograph("LA").convert("La")).mode == "LA"


def test_pillows_images_are_upright_and_keep_their_colours(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    """As their files do."""
    primaries = [0.68, 0.32, 1, 0.265, 0.69, 1, 0.15, 0.06, 1]
    profile = bytes(imagecodecs.cms_profile("rgb", primaries=primaries, gamma=2.2))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for suffix in ("png", "tif"):
        source, result = tmp_path / f"a.{suffix}", tmp_path / "b.png"
        _photograph().save(source, exif=exif, icc_profile=profile)
        large = upscaler.upscale(Image.open(source))
        upscaler.upscale_file(source, result)
        with Image.open(result) as file:
            assert large.size == file.size == (96, 128)
            assert large.info["icc_profile"] == file.info["icc_profile"] == profile
            assert np.array_equal(np.asarray(large), np.asarray(file))
        large.save(result)
        with Image.open(result) as again:
            assert again.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_the_smallest_images_are_enlarged(upscaler: Upscaler) -> None:
    for shape in ((1, 1), (1, 40), (40, 1)):
        large = upscaler.upscale(np.zeros(shape, np.uint8))
        assert large.shape == (4 * shape[0], 4 * shape[1])


def _transparent_levels() -> Image.Image:
    image = Image.new("I;16", (20, 20))
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 3, 4, 5)), r"an array \(2, 3, 4, 5\), expected"),
        (np.zeros((20, 20, 3), np.int64), "an array of int64, expected uint8"),
        (torch.zeros(20, 20), r"a tensor \(20, 20\), expected"),
        (torch.zeros(3, 20, 20, dtype=torch.int32), "a tensor of torch.int32, expected"),
        (torch.zeros(3, 4, 0), "an image of 0×4 px holds no pixels"),
        (Image.new("RGB", (0, 4)), "an image of mode RGB that cannot be read .*no pixels"),
        ("photo.jpg", "a str, expected an image"),
        (Image.new("F", (20, 20)), "an image of mode F, expected 8 bits per channel or I;16"),
        (_transparent_levels(), "an I;16 with a level that is transparent"),
        (np.full((20, 20), 255.0), r"values from 255 to 255, expected floats in \[0, 1\]"),
        (torch.linspace(-1, 1, 400).view(1, 20, 20), "values from -1 to 1, expected"),
        (np.full((20, 20), np.nan), "values from nan to nan, expected"),
    ],
)
def test_other_things_are_refused_by_name(upscaler: Upscaler, image: object, message: str) -> None:
    with pytest.raises(PassionSRError, match=message):
        upscaler.upscale(image)  # type: ignore[type-var]


def test_several_threads_get_what_one_gets(upscaler: Upscaler) -> None:
    images = [np.asarray(_photograph().rotate(angle)) for angle in range(0, 360, 45)]
    alone = [upscaler.upscale(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(upscaler.upscale, images))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_closed_upscaler_says_so(upscaler: Upscaler) -> None:
    upscaler.close()
    with pytest.raises(PassionSRError, match="is closed"):
        upscaler.upscale(_photograph())


@pytest.mark.parametrize("option", [{"output": "x"}, {"skip_existing": True}, {"engine": "ray"}])
def test_options_of_folders_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(PassionSRError, match=f"{next(iter(option))} is an option for folders"):
        Upscaler(**option)


def test_mistaken_options_are_named() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        Upscaler("mini")  # type: ignore[misc]
    with pytest.raises(PassionSRError, match="unknown key 'tiles'; did you mean 'tile'"):
        Upscaler(tiles=3)


def test_the_readmes_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _photograph().save("photo.jpg")
    text = README.read_text(encoding="utf-8")
    found = re.search(r"<!-- library -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    exec(found[1], {})
    assert Image.open("photo_x4.png").size == (128, 96)


def test_the_dial_is_an_option(dial_folder: Path, tiny_folder: Path) -> None:
    options = {"model": str(dial_folder), "backend": "torch", "precision": "fp32"}
    photograph = np.asarray(_photograph(), np.float32) / 255
    faithful, default, natural = (
        Upscaler(**options, **asked).upscale(photograph)
        for asked in ({"realism": 0}, {}, {"realism": 1.0})
    )
    assert np.abs(faithful - natural).max() > 1e-3
    assert np.array_equal(Upscaler(**options, realism=0.25).upscale(photograph), default)
    with pytest.raises(PassionSRError, match=r"realism: found .* less than or equal to 1"):
        Upscaler(**options, realism=1.1)
    with pytest.raises(PassionSRError, match="'tiny' has no dial for realism"):
        Upscaler(model=str(tiny_folder), backend="torch", realism=0)


def test_tensors_that_are_not_dense_are_told(upscaler: Upscaler) -> None:
    image = torch.rand(3, 8, 8)
    nested = torch.nested.nested_tensor([image, image])
    for tensor in (image.to("meta"), image.to_sparse(), nested):
        with pytest.raises(PassionSRError, match="a nested, sparse or meta tensor"):
            upscaler.upscale(tensor)
