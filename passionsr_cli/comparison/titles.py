"""Titles of pictures: in a font that has their letters, shortened to the room there is."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from functools import cache

from PIL import ImageDraw, ImageFont

from passionsr_cli.system.text import one_line

LETTERS_PX, LEFT_OUT = 16, "…"
# Pillow's own font has the letters of English alone; those of systems have more, the last Chinese.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
)
# No font has a letter for it, but a sign that one is missing.
NO_LETTER = "\uffff"

Font = ImageFont.FreeTypeFont


def draw_title(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width_px: int) -> None:
    """Draw a text of one line, whatever is in it, that ends within `width_px` of its place.

    What does not fit is left out of its middle, and so are letters that no font here has.
    """
    text = unicodedata.normalize("NFC", one_line(text))
    font = max(_fonts(), key=lambda font: sum(_has(font, letter) for letter in text))
    shown = "".join(letter if _has(font, letter) else LEFT_OUT for letter in text)
    shown = re.sub(f"{LEFT_OUT}+", LEFT_OUT, shown)
    draw.text(place, _shortened(shown, width_px, font), "black", font)


def _shortened(text: str, width_px: int, font: Font) -> str:
    short, kept = text, len(text)
    while kept and font.getlength(short) > width_px:
        kept -= 1
        short = text[: kept - kept // 2] + LEFT_OUT + text[len(text) - kept // 2 :]
    return short


@cache
def _fonts() -> list[Font]:
    """Pillow's own first, then those of the system."""
    fonts = [ImageFont.load_default(LETTERS_PX)]
    for name in SYSTEM_FONTS:
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, LETTERS_PX))
    return [font for font in fonts if isinstance(font, Font)]


@cache
def _has(font: Font, letter: str) -> bool:
    return bytes(font.getmask(letter)) != bytes(font.getmask(NO_LETTER))
