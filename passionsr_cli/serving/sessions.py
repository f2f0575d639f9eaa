"""Sessions of a server: their folders, what was made in them, and whether they were stopped."""

from __future__ import annotations

import itertools
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from passionsr_cli.errors import OutputError
from passionsr_cli.system.claims import claim, new_temporary_folder
from passionsr_cli.system.files import remove
from passionsr_cli.system.paths import cache_folder
from passionsr_cli.upscaling.images import Done

# Files that nobody has touched for so long are removed.
KEPT_SECONDS = 3600


@contextmanager
def temporary_place() -> Iterator[Path]:
    """A folder for all that is uploaded and made, readable by its owner alone, removed at the
    end; what servers that were killed left is removed now. Raises `OutputError`."""
    folder = cache_folder()
    try:
        own = new_temporary_folder(folder, ".serve.")
    except OSError as error:
        raise OutputError(
            f"cannot write under {folder}: {error.strerror}; set PASSIONSR_CACHE to a folder that "
            "can be written"
        ) from None
    with claim(own, "serving"):
        place = own / "files"
        place.mkdir()
        try:
            yield place
        finally:
            remove(own)


@dataclass
class Session:
    """One open page, or one client: its uploads, and its results by the names they are shown
    with."""

    folder: Path
    is_page: bool = False
    under_way: int = 0
    # With their inodes: the same photograph uploaded anew takes the same place.
    uploads: dict[Path, int] = field(default_factory=dict)
    done: dict[str, Done] = field(default_factory=dict)
    # By its page's clock: what was asked for until then is not wanted any more.
    stopped_at: float = -math.inf
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def uploaded(self, path: Path) -> None:
        """Remember a file that goes when the session ends; it may be gone already, or none."""
        if os.path.isfile(path):
            with suppress(OSError):
                self.uploads[path] = path.stat().st_ino

    @contextmanager
    def working(self) -> Iterator[None]:
        """While work is under way."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def begin(self) -> None:
        """Forget what was made before, and its files."""
        self.done.clear()
        remove(self.folder)

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """An empty folder, for one result and its views; it goes with all in it if the block
        fails."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir(parents=True)
        try:
            yield folder
        except BaseException:
            remove(folder)
            raise

    def keep(self, done: Done) -> str:
        """Add a result; returns the name it is shown with, another for each."""
        name = done.output.name
        for number in itertools.count(2):
            if name not in self.done:
                break
            name = f"{done.output.name} ({number})"
        # It is seen beside its result, and kept as long.
        os.utime(done.source)
        self.done[name] = done
        return name


class Sessions:
    """All sessions, by what the browser or the client calls itself."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._sessions: dict[str, Session] = {}

    def of(self, key: str | None) -> Session:
        """The session of this key, begun where there is none."""
        # The key comes from outside and is no name of a folder.
        folder = self._place / f"results-{secrets.token_hex(16)}"
        return self._sessions.setdefault(key or "", Session(folder))

    def end(self, key: str | None) -> None:
        """Stop what a page has under way, and remove the files of a page or a client.

        A client whose sign of life is late may still wait for its work: its files stay.
        """
        session = self._sessions.get(key or "")
        if session is None or (session.under_way and not session.is_page):
            return
        del self._sessions[key or ""]
        session.stopped_at = math.inf
        remove(session.folder)
        for upload, inode in session.uploads.items():
            there = upload.stat() if upload.exists() else None
            # The same file of another session is this one, linked into its folder.
            if there and (there.st_ino, there.st_nlink) == (inode, 1):
                remove(upload)

    def stop_all(self) -> None:
        """Let all work end at its next tile."""
        for session in list(self._sessions.values()):
            session.stopped_at = math.inf

    def sweep(self) -> None:
        """Remove what is older than `KEPT_SECONDS`: uploads, also half ones of people who went
        away, results, and clients of which nothing is left. What is worked on stays."""
        until = time.time() - KEPT_SECONDS
        worked_on = [each.folder for each in list(self._sessions.values()) if each.under_way]
        for folder, _, names in os.walk(self._place, topdown=False):
            if any(Path(folder).is_relative_to(each) for each in worked_on):
                continue
            for name in names:
                _remove_if_older(os.path.join(folder, name), until, os.unlink)
            if Path(folder) != self._place:
                _remove_if_older(folder, until, os.rmdir)
        for key, session in list(self._sessions.items()):
            if not (session.is_page or session.under_way or session.folder.exists()):
                self._sessions.pop(key, None)


def _remove_if_older(path: str, until: float, removing: Callable[[str], None]) -> None:
    # It may be gone by now, and a folder may not be empty.
    with suppress(OSError):
        if os.lstat(path).st_ctime < until:
            removing(path)
