"""Files that are whole or absent, and the proof that they are what was written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HASH_BLOCK_BYTES = 1 << 20


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place only if the block succeeds.

    The suffix is kept, since libraries choose formats by it. Raises `OSError` as the file
    system does; nothing half-written remains, whatever happens.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        # Renaming is only atomic for content that has reached the disk.
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
