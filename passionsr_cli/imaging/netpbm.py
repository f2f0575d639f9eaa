"""Colour images of Netpbm's with 16 bits, which Pillow would read as 8."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from passionsr_cli.errors import ImageError

# A word after white space and comments; each alternative begins with another letter.
_WORD = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")
BYTE = 255
HEADER_WORDS = 4


def read_deep(path: Path) -> npt.NDArray[np.float32] | None:
    """Pixels (H, W, 3) in [0, 1] of a binary PPM of more than 8 bits; None for any other."""
    content = path.read_bytes()
    if not content.startswith(b"P6"):
        return None
    words: list[bytes] = []
    place = 0
    while len(words) < HEADER_WORDS and (found := _WORD.match(content, place)):
        words.append(found[1])
        place = found.end()
    width, height, white = (int(word) for word in words[1:])
    if white <= BYTE:
        return None
    # One character of white space ends the header.
    count, start = width * height * 3, place + 1
    if len(content) < start + 2 * count:
        raise ImageError(f"{path}: damaged: rows of it are missing")
    levels = np.frombuffer(content, ">u2", count, start).reshape(height, width, 3)
    return (levels.astype(np.float32) / np.float32(white)).clip(0, 1)
