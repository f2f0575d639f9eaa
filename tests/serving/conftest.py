"""One server for all tests that only visit it, and a photograph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from visiting import MISSING, NO_GRADIO, Person, Server, person, serving

from passionsr_cli.imaging import samples
from passionsr_cli.pixels.arrays import rounded_levels

# A little more than most telephones take.
MEGAPIXELS = "29"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if NO_GRADIO:
        pytest.skip("gradio is not installed: pip install gradio")
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--max-megapixels", MEGAPIXELS, "--queue", "2") as running:
        yield running


@pytest.fixture(scope="session")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small photograph with metadata, whose name is not plain."""
    pixels = rounded_levels(samples.low_resolution("sample:coffee")[:, :48, :64])
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    exif = image.getexif()
    exif[0x010F] = "A camera"
    path = tmp_path_factory.mktemp("photograph") / "Käse (1) #2.jpg"
    image.save(path, quality=92, exif=exif)
    return path


@pytest.fixture
def visitor(server: Server, tmp_path: Path) -> Iterator[Person]:
    """A person who has opened the page."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    with person(tmp_path / "visitor") as found:
        found.open(server.url)
        yield found


@pytest.fixture(scope="module")
def looking(
    server: Server, photograph: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Person]:
    """A person whose photograph has been upscaled, as the page offers it."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    with person(tmp_path_factory.mktemp("looking")) as found:
        found.open(server.url)
        found.drop(photograph)
        found.press("Upscale")
        found.wait_for_pictures()
        yield found
