"""Tiles of a picture that is being computed, kept on disk: after a kill the same command takes
them up.

Each half of the model (see `Executor`) that is slow leaves in the cache a file for each tile,

    tiles/PICTURE/INPUT.tile: SHA-256 of the rest, and an array as NumPy writes it

where PICTURE names all that decides the arithmetic and the picture, and INPUT what went in: what is
found there is what would be computed, to the last bit. When the picture is in its place, its folder
goes, and after some days one that nobody came back to.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import threading
import time
from functools import cached_property
from pathlib import Path

import numpy as np

from passionsr_cli.inference.executor import Executor
from passionsr_cli.pixels.arrays import Array
from passionsr_cli.pixels.strips import strips_of
from passionsr_cli.system import cpu
from passionsr_cli.system.files import is_own_folder, remove, replace_atomically
from passionsr_cli.system.paths import cache_folder
from passionsr_cli.system.sources import version_of
from passionsr_cli.tiling.upscaler import Half

FOLDER = "tiles"
# Keeping a tile takes some milliseconds: what is computed sooner than this is not kept.
WORTH_SECONDS = 0.3
# Results come first: those of 12 megapixels leave 0.2 GB of tiles.
LEAST_FREE_BYTES = 2 << 30
ABANDONED_AFTER_DAYS = 7

_NAME = re.compile(r"[0-9a-f]{24}")
_DIGEST_BYTES = hashlib.sha256().digest_size


class KeptTiles:
    """Tiles of the picture `rgb` (3, h, w), of a model and code that `made_by` names, which
    `executor` runs.

    Nothing is kept where `made_by` is None, on a full disk, in a cache that cannot be written, nor
    of accelerators, which are fast and may compute otherwise from some moment on. Several processes
    may keep tiles of one picture.
    """

    def __init__(self, made_by: str | None, executor: Executor, rgb: Array) -> None:
        self._made_by, self._executor, self._rgb = made_by, executor, rgb
        self._on = made_by is not None and executor.device == "cpu"
        self._root = cache_folder() / FOLDER
        self._turn, self._halves = threading.Lock(), 0
        _sweep(self._root)
        self._there = False
        # A cache that others alone may read is one that cannot be written.
        with contextlib.suppress(OSError):
            # Where no slow model leaves any, nobody has to find out which would be ours.
            self._there = self._on and self._root.is_dir() and is_own_folder(self._folder)

    @property
    def taken_up(self) -> int:
        """Count of the tiles that were there, each of which has two halves."""
        return (self._halves + 1) // 2

    def around(self, half: Half, how: tuple[object, ...]) -> Half:
        """This half of the model, reading what is there of earlier tiles; `how` it is called."""
        if not self._on:
            return half
        ran = threading.Event()

        def remembering(tiles: Array) -> Array:
            if self._there and (found := _read(self._place(tiles, how))) is not None:
                with self._turn:
                    self._halves += len(tiles)
                return found
            # What is called before anything ran waits for the model: that says nothing of a tile.
            warm, started = ran.is_set(), time.perf_counter()
            result = half(tiles)
            ran.set()
            if warm and time.perf_counter() - started > WORTH_SECONDS:
                self._write(self._place(tiles, how), result)
            return result

        return remembering

    def remove(self) -> None:
        """The picture is in its place: nothing of its tiles remains."""
        if self._there:
            with contextlib.suppress(OSError):
                remove(self._folder)
                self._root.rmdir()

    @cached_property
    def _folder(self) -> Path:
        made_by = [self._made_by, *_arithmetic(self._executor), self._rgb.shape]
        digest = hashlib.sha256(json.dumps(made_by).encode())
        for strip in strips_of(self._rgb):
            digest.update(np.ascontiguousarray(strip).data)
        return self._root / digest.hexdigest()[:24]

    def _place(self, tiles: Array, how: tuple[object, ...]) -> Path:
        digest = hashlib.sha256(json.dumps([how, tiles.shape]).encode())
        digest.update(np.ascontiguousarray(tiles).data)
        return self._folder / f"{digest.hexdigest()}.tile"

    def _write(self, place: Path, result: Array) -> None:
        file = io.BytesIO()
        np.save(file, result, allow_pickle=False)
        content = file.getvalue()
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._there = is_own_folder(self._folder)
            if not self._there or shutil.disk_usage(self._folder).free < LEAST_FREE_BYTES:
                return
            with replace_atomically(place) as temporary:
                temporary.write_bytes(hashlib.sha256(content).digest() + content)


def _read(place: Path) -> Array | None:
    """A kept array, None where there is none that is whole."""
    try:
        content = place.read_bytes()
    except OSError:
        return None
    digest, array = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(array).digest() != digest:
        return None
    try:
        result: Array = np.lib.format.read_array(io.BytesIO(array), allow_pickle=False)
    except ValueError:
        return None
    return result


def _arithmetic(executor: Executor) -> list[str]:
    """Facts by which the same model may round otherwise."""
    runtime = executor.backend
    # Sums are parted among threads.
    threads = f"{cpu.usable_cores()} {os.environ.get('OMP_NUM_THREADS')}"
    versions = [version_of(package) for package in (runtime, "numpy")]
    return [runtime, executor.precision, cpu.name(), *cpu.instructions(), threads, *versions]


def _sweep(root: Path) -> None:
    """Remove tiles of pictures that nobody came back to."""
    with contextlib.suppress(OSError):
        if not is_own_folder(root):
            return
        abandoned = time.time() - ABANDONED_AFTER_DAYS * 86400
        for folder in root.iterdir():
            if _NAME.fullmatch(folder.name) and folder.lstat().st_mtime < abandoned:
                remove(folder)
