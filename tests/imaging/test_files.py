from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli.errors import ImageError, OutputError
from passionsr_cli.imaging.files import Picture, read_picture, write_picture

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (10, 14, 3), dtype=np.uint8)


def _saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    picture = read_picture(_saved(Image.fromarray(RGB), tmp_path / "a.png"))
    assert picture.size == (14, 10)
    assert np.array_equal((picture.rgb * 255).round().numpy(), RGB.transpose(2, 0, 1))
    assert picture.alpha is None
    assert not picture.grey


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    # A white top-left corner as displayed; each orientation stores it somewhere else.
    upright = np.zeros((10, 14, 3), np.uint8)
    upright[:5, :7] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    picture = read_picture(_saved(image, tmp_path / "a.png", exif=exif))
    assert np.array_equal((picture.rgb * 255).numpy().astype(np.uint8), upright.transpose(2, 0, 1))


def test_grey_stays_grey(tmp_path: Path) -> None:
    grey = Image.fromarray(RGB[..., 0])
    picture = read_picture(_saved(grey, tmp_path / "a.png"))
    assert picture.grey
    write_picture(tmp_path / "b.png", picture)
    back = Image.open(tmp_path / "b.png")
    assert back.mode == "L"
    assert np.array_equal(np.array(back), RGB[..., 0])


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 140).astype(np.uint16).reshape(10, 14)
    picture = read_picture(_saved(Image.fromarray(ramp), tmp_path / "a.png"))
    assert np.allclose(picture.rgb[0].numpy(), ramp / 65535, atol=1e-4)


def test_palette_and_its_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).quantize(8)
    picture = read_picture(_saved(palette, tmp_path / "a.png", transparency=0))
    assert picture.alpha is not None
    assert torch.equal(picture.alpha[0] == 0, torch.from_numpy(np.array(palette) == 0))


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    picture = read_picture(_saved(cmyk, tmp_path / "a.tif"))
    assert np.array_equal((picture.rgb * 255).round().numpy(), RGB.transpose(2, 0, 1))
    assert picture.icc_profile is None


def test_alpha_is_kept_aside_and_written_back(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, RGB[..., :1]])
    picture = read_picture(_saved(Image.fromarray(rgba), tmp_path / "a.png"))
    assert picture.alpha is not None
    write_picture(tmp_path / "b.png", picture)
    assert np.array_equal(np.array(Image.open(tmp_path / "b.png")), rgba)


def test_transparency_is_not_dropped_silently(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.jpg holds no transparency"):
        write_picture(tmp_path / "a.jpg", Picture(torch.rand(3, 8, 8), torch.rand(1, 8, 8)))


def test_profile_of_an_rgb_file_is_kept(tmp_path: Path) -> None:
    path = _saved(Image.fromarray(RGB), tmp_path / "a.png", icc_profile=b"profile")
    write_picture(tmp_path / "b.png", read_picture(path))
    assert Image.open(tmp_path / "b.png").info["icc_profile"] == b"profile"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.png", b"hello", "not an image file"),
        ("empty.jpg", b"", "not an image file"),
        ("missing.png", None, "no such file"),
    ],
)
def test_unreadable_files_are_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=f"{name}.*{message}"):
        read_picture(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_truncated_files_are_damaged(tmp_path: Path, suffix: str) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8))
    path = _saved(noise, tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="damaged or unreadable"):
        read_picture(path)


def test_an_unknown_output_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write '\.xyz' files; use one of \.png"):
        write_picture(tmp_path / "a.xyz", Picture(torch.rand(3, 8, 8)))


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(image: Image.Image, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(OutputError, match="the disk is full"):
        write_picture(tmp_path / "a.png", Picture(torch.rand(3, 8, 8)))
    assert list(tmp_path.glob("**/*.png")) == []
