"""Drawn images: what screenshots, signs and documents are made of and photographs seldom show."""

from __future__ import annotations

import string

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

# Drawn so much larger and then reduced, edges come out smooth.
OVERSAMPLING = 2
CHARACTERS = string.ascii_letters + string.digits + ".,:;!?-+%&()"
SMALLEST_LETTER_PX, LARGEST_LETTER_PX = 9, 48


def drawn_image(side_px: int, generator: Generator) -> Tensor:
    """Boxes, lines, ellipses and lettering on a plain or shaded ground: uint8 (3, side, side)."""
    side = side_px * OVERSAMPLING
    image = Image.fromarray(_ground(side, generator))
    draw = ImageDraw.Draw(image)
    for _ in range(_integer(0, 4, generator)):
        _draw_shape(draw, side, generator)
    for _ in range(_integer(1, 4, generator)):
        _draw_lines_of_text(draw, side, generator)
    reduced = image.resize((side_px, side_px), Image.Resampling.BOX)
    return torch.from_numpy(np.array(reduced)).permute(2, 0, 1)


def plain_colour(generator: Generator) -> Tensor:
    """One colour of 8 bits, (3, 1, 1) in [0, 1]: black, white, a grey, or any, alike often."""
    kind = _integer(0, 3, generator)
    if kind < 2:
        return torch.full((3, 1, 1), float(kind))
    levels = torch.randint(256, (1 if kind == 2 else 3, 1, 1), generator=generator)
    return (levels / 255).expand(3, 1, 1)


def _ground(side: int, generator: Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    first, second = (np.array(_colour(generator), np.float32) for _ in range(2))
    if _integer(0, 2, generator):
        second = first
    ramp = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    shaded = np.broadcast_to(first + (second - first) * ramp, (side, side, 3))
    return shaded.round().astype(np.uint8)


def _draw_shape(draw: ImageDraw.ImageDraw, side: int, generator: Generator) -> None:
    x, y = (sorted(_integer(0, side - 1, generator) for _ in range(2)) for _ in range(2))
    box = (x[0], y[0], x[1], y[1])
    colour, width = _colour(generator), _integer(1, 4 * OVERSAMPLING, generator)
    kind = _integer(0, 3, generator)
    if kind == 0:
        draw.rectangle(box, fill=colour)
    elif kind == 1:
        draw.rectangle(box, outline=colour, width=width)
    elif kind == 2:
        draw.ellipse(box, fill=colour)
    else:
        draw.line(box, fill=colour, width=width)


def _draw_lines_of_text(draw: ImageDraw.ImageDraw, side: int, generator: Generator) -> None:
    height = _integer(SMALLEST_LETTER_PX, LARGEST_LETTER_PX, generator) * OVERSAMPLING
    font, colour = ImageFont.load_default(size=height), _colour(generator)
    left, top = (_integer(-height, side - height, generator) for _ in range(2))
    for line in range(_integer(1, 4, generator)):
        letters = [
            CHARACTERS[_integer(0, len(CHARACTERS) - 1, generator)]
            for _ in range(_integer(4, 24, generator))
        ]
        text = "".join(letter if n % 6 else f" {letter}" for n, letter in enumerate(letters, 1))
        draw.text((left, top + line * 1.3 * height), text, fill=colour, font=font)


def _colour(generator: Generator) -> tuple[int, int, int]:
    """Any colour; black and white as often as all others together."""
    kind = _integer(0, 3, generator)
    if kind < 2:
        return (255 * kind,) * 3
    red, green, blue = torch.randint(256, (3,), generator=generator).tolist()
    return red, green, blue


def _integer(low: int, high: int, generator: Generator) -> int:
    """One of low, …, high."""
    return int(torch.randint(low, high + 1, (), generator=generator))
