"""Chunks of a PNG (ISO/IEC 15948, 5.3): kind, length, content."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

SIGNATURE_BYTES = 8


def contents(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk, in their order; damaged ones end it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for kind, length in heads(file):
            if length > size:
                return
            yield kind, file.read(length)


def heads(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of an opened PNG, the file at its content."""
    file.seek(SIGNATURE_BYTES)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        after = file.tell() + length + 4
        yield kind, length
        file.seek(after)
