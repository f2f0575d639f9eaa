"""Files that are whole or absent, and the proof that they are what was written."""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# Unlike that of `Path`, this one takes names that are too long.
from os.path import exists
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psutil

from passionsr_cli.errors import OutputError, StoreError
from passionsr_cli.system.memory import is_out_of_memory

HASH_BLOCK_BYTES = 1 << 20
LONGEST_STEM_BYTES = 200
# What this process writes now.
_unfinished: set[Path] = set()
_temporary: WeakSet[tempfile.TemporaryDirectory[str]] = WeakSet()


@contextmanager
def replace_atomically(
    path: Path, whole: Callable[[Path], None] = lambda temporary: None
) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place only if the block succeeds.

    The suffix is kept, since libraries choose formats by it. `whole` is called with the temporary
    path when all is written there. Raises `OSError` as the file system does; nothing half-written
    remains, whatever happens.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_beside(path) as temporary:
        yield temporary
        put_in_place(temporary, path, whole)


@contextmanager
def unfinished_beside(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`, for a file whose name shows when it is written;
    what is still there after the block is removed."""
    temporary = temporary_beside(path)
    _unfinished.add(temporary)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


def put_in_place(
    temporary: Path, path: Path, whole: Callable[[Path], None] = lambda temporary: None
) -> None:
    """Give a file that is written its name, in one step."""
    # Renaming is only atomic for content that has reached the disk.
    with temporary.open("r+b") as file:
        os.fsync(file.fileno())
    whole(temporary)
    os.replace(temporary, path)


def drop_unfinished() -> None:
    """Remove what other threads are writing, and temporary folders, of a process that ends without
    them."""
    for temporary in list(_unfinished):
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    for folder in list(_temporary):
        folder.cleanup()


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder that goes with the object, or by `drop_unfinished`."""
    folder = tempfile.TemporaryDirectory(prefix="passionsr-", ignore_cleanup_errors=True)
    _temporary.add(folder)
    return folder


def is_own_folder(path: Path) -> bool:
    """Tell whether a folder is there that is no link: what is written there stays there."""
    return path.is_dir() and not path.is_symlink()


def must_exist(path: Path) -> None:
    """Refuse a file or folder that is not there. Raises `StoreError`."""
    if not exists(path):
        raise StoreError(f"{path}: no such file or folder")


def temporary_beside(path: Path) -> Path:
    """A hidden path in the folder of `path`, which must exist, that nobody else uses.

    It is called `.STEM.PROCESS-RANDOM.SUFFIX`, as threads may write the same file. What processes
    that have ended left under such a name is removed, also one that had this one's number, and a
    link that stands there. Processes of another container or machine count as ended: of two that
    write the same file on one disk at the same time the first fails.
    """
    stem = path.stem
    if len(os.fsencode(stem)) > LONGEST_STEM_BYTES:
        # Names have at most 255 bytes, and this one grows.
        stem = hashlib.sha256(os.fsencode(stem)).hexdigest()
    owned = re.compile(rf"\.{re.escape(stem)}\.(\d+)(?:-\w+)?{re.escape(path.suffix)}")
    for left in path.parent.glob(f".*{glob.escape(path.suffix)}"):
        found = owned.fullmatch(left.name)
        if found and (left.is_symlink() or _is_left(left, int(found.group(1)))):
            remove(left)
    return path.with_name(f".{stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")


def _is_left(path: Path, process: int) -> bool:
    if process == os.getpid():
        return path not in _unfinished
    return not _runs(process)


def _runs(process: int) -> bool:
    if not psutil.pid_exists(process):
        return False
    try:
        # What was killed stays until its parent asks for it, which in a container may be never.
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


@contextmanager
def temporary_space() -> Iterator[None]:
    """Say of temporary files that cannot be written where they are. Raises `OutputError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # OpenVINO says RuntimeError of a disk that is full.
        if is_out_of_memory(error):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OutputError(
            f"{tempfile.gettempdir()}: temporary files cannot be written ({reason}); make room "
            "there, or set TMPDIR to another folder"
        ) from None


def remove(path: Path) -> None:
    """Remove a file or a whole folder if it is there; of a link only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_memory(path: Path, content: io.BytesIO) -> None:
    """Write what is in memory into a file, without a copy of it."""
    # Released also where the disk is full: Python 3.12.1 crashed when it collected a held view.
    with path.open("wb") as output, content.getbuffer() as view:
        output.write(view)


def read_json(path: Path, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """Read a JSON file. Raises `OSError`, and `ValueError` for all that is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
