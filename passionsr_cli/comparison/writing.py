"""Comparisons as files: one HTML page with sliders, or one contact sheet."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from passionsr_cli.comparison.titles import draw_title
from passionsr_cli.comparison.versions import Compared, Levels
from passionsr_cli.errors import OutputError
from passionsr_cli.pages.rendering import render
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.system.own_files import MADE_BY

if TYPE_CHECKING:
    from PIL import Image

PAGE = Path(__file__).parent / "comparison.html"
# A title needs some width, however small the pictures are.
CELL_PX, LEAST_CELL_PX, TITLE_PX, GAP_PX = 480, 160, 24, 8


def write_page(path: Path, compared: Sequence[Compared]) -> None:
    """Write a page that needs no network; its pictures are lossless, to be looked at pixel by
    pixel."""
    pictures = [
        {
            "name": each.name,
            "width": each.size[0],
            "height": each.size[1],
            # The result, beside its input.
            "right": 1,
            "versions": [
                {"name": version.name, "caption": "", "url": _url(version.rgb)}
                for version in each.versions
            ],
        }
        for each in compared
    ]
    names = ", ".join(each.name for each in compared)
    page = render(
        PAGE,
        title=f"{names}: compared",
        heading=names,
        about=" · ".join(version.name for version in compared[0].versions),
        remarks=[],
        pictures=pictures,
    )
    with _told(path), replace_atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def write_sheet(path: Path, compared: Sequence[Compared]) -> None:
    """Write a PNG of all versions: a row for each image, below its name, and the name of each
    version above it."""
    from PIL import Image, ImageDraw
    from PIL.PngImagePlugin import PngInfo

    columns = max(len(each.versions) for each in compared)
    width, height = (min(CELL_PX, max(each.size[side] for each in compared)) for side in (0, 1))
    width = max(width, LEAST_CELL_PX)
    across, down = width + GAP_PX, 2 * TITLE_PX + height + GAP_PX
    size = (columns * across + GAP_PX, len(compared) * down + GAP_PX)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, each in enumerate(compared):
        top = GAP_PX + row * down
        draw_title(draw, (GAP_PX, top), each.name, columns * across - GAP_PX)
        for column, version in enumerate(each.versions):
            left = GAP_PX + column * across
            draw_title(draw, (left, top + TITLE_PX), version.name, width)
            sheet.paste(_middle(version.rgb), (left, top + 2 * TITLE_PX))
    about = PngInfo()
    about.add_text("Comment", MADE_BY)
    with _told(path), replace_atomically(path) as temporary:
        sheet.save(temporary, "PNG", pnginfo=about)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say of a comparison that cannot be written that it is that, and not the result."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None


def _middle(rgb: Levels) -> Image.Image:
    """The middle of a version, pixel by pixel."""
    from PIL import Image

    top, left = (max(0, side - CELL_PX) // 2 for side in rgb.shape[1:])
    part = rgb[:, top : top + CELL_PX, left : left + CELL_PX]
    return Image.fromarray(np.ascontiguousarray(part.transpose(1, 2, 0)))


def _url(rgb: Levels) -> str:
    from PIL import Image

    file = BytesIO()
    image = Image.fromarray(np.ascontiguousarray(rgb.transpose(1, 2, 0)))
    image.save(file, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
