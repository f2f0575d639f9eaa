"""A tiny model behind an upscaler, and folders of photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.imaging import samples
from passionsr_cli.pixels.arrays import rounded_levels
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.images import open_upscaler


@pytest.fixture
def settings(tiny_folder: Path, tmp_path: Path) -> UpscaleSettings:
    return UpscaleSettings(
        model=str(tiny_folder),
        backend="torch",
        device="cpu",
        precision="fp32",
        output=tmp_path / "out",
    )


@pytest.fixture
def upscaler(settings: UpscaleSettings) -> TiledUpscaler:
    return open_upscaler(settings)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A tree of eleven photographs and what else lies in such trees."""
    folder = tmp_path / "in"
    pixels = rounded_levels(samples.low_resolution("sample:coffee")).transpose(1, 2, 0)
    for index in range(11):
        place = folder / ("", "summer", "summer/sea")[index % 3]
        place.mkdir(parents=True, exist_ok=True)
        part = pixels[index : index + 24, index : index + 20 + index]
        Image.fromarray(part).save(place / f"{index:02d}.png")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._01.png", "notes.txt"):
        (folder / name).write_bytes(b"litter")
    (folder / "@eaDir").mkdir()
    Image.fromarray(pixels).save(folder / "@eaDir" / "thumbnail.jpg")
    return folder
