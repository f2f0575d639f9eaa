"""Folders that one process at a time may change: who holds one, and that it is ours at all."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from passionsr_cli.errors import OutputError
from passionsr_cli.progress import Reporter
from passionsr_cli.system.files import read_json, remove

LOCK_FILE, HOLDER_FILE = "lock", "holder.json"
# Who asks whether a folder is held holds it himself for a moment.
ASKING_SECONDS, AGAIN_SECONDS = 0.5, 0.05
# Who makes a folder holds it long before it is so old.
BEGINNING_SECONDS = 60


@contextmanager
def claim(folder: Path, work: str) -> Iterator[None]:
    """Hold a folder, made if need be, for this process alone while it does `work` ("training").

    The operating system lets go of it when the process ends, however it ends. Raises `OutputError`
    that says who holds it, or why it cannot be held.
    """
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        _acquire(lock, folder)
        _write_holder(folder / HOLDER_FILE, work)
    except Timeout:
        raise OutputError(f"{folder}: {_holder(folder)} holds it; wait for it, or end it") from None
    except OSError as error:
        lock.release()
        for place in (folder / LOCK_FILE, folder / HOLDER_FILE):
            if place.is_dir():
                raise OutputError(f"{place}: a folder in a file's place; remove it") from None
        raise OutputError(f"{folder}: cannot be held ({error.strerror})") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER_FILE).unlink()
            if [path.name for path in folder.iterdir()] == [LOCK_FILE]:
                # Nothing came of the work, or all of it has gone where it belongs.
                (folder / LOCK_FILE).unlink()
                folder.rmdir()
        lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    until = time.monotonic() + ASKING_SECONDS
    while True:
        make_own_folder(folder)
        try:
            lock.acquire()
            return
        except (Timeout, FileNotFoundError):
            # Whoever held it may have removed it at the end.
            if time.monotonic() > until:
                raise
            time.sleep(AGAIN_SECONDS)


def new_temporary_folder(parent: Path, prefix: str) -> Path:
    """A new folder in `parent`, readable by its owner alone, to be held at once; those of this
    prefix whose processes were killed are removed. Raises `OSError`."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*"):
        # What is another user's is none of ours.
        with contextlib.suppress(OSError):
            _remove_if_left(left)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def _remove_if_left(folder: Path) -> None:
    age = time.time() - folder.stat().st_mtime
    if (folder / LOCK_FILE).exists() or age > BEGINNING_SECONDS:
        with FileLock(folder / LOCK_FILE, timeout=0):
            remove(folder)


@contextmanager
def alone(unfinished: Path, work: str, reporter: Reporter) -> Iterator[None]:
    """While no other process does the same `work` ("converts this model"), which makes something
    of what is `unfinished`; while another does, wait for it and say so.

    Raises `OSError` where nothing can be held.
    """
    lock = FileLock(f"{unfinished}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.note(f"another process {work}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        # Whoever waits for it has nothing half to share with one who makes it anew.
        if not unfinished.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def clear(folder: Path) -> None:
    """Empty a folder that is held: of a finished run that was killed while it was removed, a part
    may be left, which the next run of its name would take for its own."""
    for path in folder.iterdir():
        if path.name not in (LOCK_FILE, HOLDER_FILE):
            remove(path)


def holder(folder: Path) -> str | None:
    """Who holds a folder ("process 71 on desk, training since 12:03"), None if nobody does."""
    if not (folder / LOCK_FILE).exists():
        return None
    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            return None
    except Timeout:
        return _holder(folder)


def make_own_folder(folder: Path, ours: Callable[[str], bool] = lambda name: True) -> None:
    """Make a working folder, or take up an earlier run's; its files have names that are `ours`.

    Raises `OutputError` where it would not be ours: what a link leads to, itself or one within
    (what is written there would go where it leads), or files of others.
    """
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link; it must be a folder of its own: remove the link")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = sorted(folder.iterdir())
    except FileExistsError:
        raise OutputError(f"{folder} must be a folder; move the file of that name") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from None
    if links := [path for path in present if path.is_symlink()]:
        raise OutputError(f"{links[0]} is a link, which passionsr did not make: remove the link")
    if foreign := [path.name for path in present if not ours(path.name)]:
        raise OutputError(
            f"{folder} holds what passionsr did not write ({foreign[0]}); move it elsewhere"
        )


def _write_holder(path: Path, work: str) -> None:
    since = datetime.now().astimezone().isoformat(timespec="minutes")
    about = {"process": os.getpid(), "host": socket.gethostname(), "work": work, "since": since}
    path.write_text(json.dumps(about), encoding="utf-8")


def _holder(folder: Path) -> str:
    try:
        about = read_json(folder / HOLDER_FILE)
        since = datetime.fromisoformat(about["since"]).strftime("%H:%M")
        return f"process {about['process']} on {about['host']}, {about['work']} since {since},"
    except (OSError, ValueError, TypeError, KeyError):
        return "another run"
