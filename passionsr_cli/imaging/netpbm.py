"""Colour images of Netpbm's with 16 bits, in bytes or in digits, which Pillow would read as 8."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from passionsr_cli.errors import ImageError

# A word after white space and comments; each alternative begins with another letter.
_WORD = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")
_COMMENT = re.compile(rb"#[^\n]*")
_NUMBERS = re.compile(rb"[0-9\s]*")
IN_BYTES, IN_DIGITS = b"P6", b"P3"
BYTE = 255
HEADER_WORDS = 4


def read_deep(path: Path) -> npt.NDArray[np.float32] | None:
    """Pixels (H, W, 3) in [0, 1] of a PPM of more than 8 bits; None for any other."""
    content = path.read_bytes()
    kind = content[:2]
    if kind not in (IN_BYTES, IN_DIGITS):
        return None
    words: list[bytes] = []
    place = 0
    while len(words) < HEADER_WORDS and (found := _WORD.match(content, place)):
        words.append(found[1])
        place = found.end()
    width, height, white = (int(word) for word in words[1:])
    if white <= BYTE:
        return None
    count = width * height * 3
    # One character of white space ends the header.
    read = _from_bytes if kind == IN_BYTES else _from_digits
    levels = read(content, place + 1, count)
    if len(levels) < count:
        raise ImageError(f"{path}: damaged: rows of it are missing")
    if levels.max() > white:
        raise ImageError(f"{path}: damaged: it has levels above its white, {white}")
    return levels.reshape(height, width, 3).astype(np.float32) / np.float32(white)


def _from_bytes(content: bytes, start: int, count: int) -> npt.NDArray[np.integer]:
    there = max(0, len(content) - start) // 2
    return np.frombuffer(content, ">u2", min(count, there), start)


def _from_digits(content: bytes, start: int, count: int) -> npt.NDArray[np.integer]:
    """As far as there are numbers."""
    # numpy warns of what is no number. Told how many there should be, it makes up those that lack.
    found = _NUMBERS.match(_COMMENT.sub(b"", content[start:]))
    return np.fromstring(found[0] if found else b"", np.int64, sep=" ")[:count]
