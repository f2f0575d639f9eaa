"""Journal of a run over many images, by which the same command goes on where it stopped.

While a run is not over, the folder of its results holds `.passionsr`: a lock, results that are
being written, and lines of JSON, one for each finished image (see `finished`), in a file for each
writer. A line is written when the result is whole but has not got its name yet. Renaming keeps
size and time, as does copying to a file system that is mounted below, so a result that a line
describes is the one this run wrote, however it was ended. When it is over, the lines go to the
cache: the same command, of results that are still there, has nothing to do.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from passionsr_cli.errors import OutputError
from passionsr_cli.system.claims import HOLDER_FILE, LOCK_FILE, claim, make_own_folder
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.upscaling.finished import (
    Finished,
    Identity,
    by_output,
    describes,
    identity,
    line_of,
)
from passionsr_cli.upscaling.planning import Job

FOLDER = ".passionsr"
# Lines of a writer, a process's number or an actor of Ray's, results it has written, and those it
# is writing: WRITER.jsonl, WRITER-PROCESS-THREAD.png, .WRITER-PROCESS-THREAD.PROCESS-RANDOM.png.
_WRITER = r"(?:\d+|ray-[0-9a-f]+)"
_LINES = re.compile(rf"{_WRITER}\.jsonl")
_LOCK = re.compile("|".join(map(re.escape, (LOCK_FILE, HOLDER_FILE))))
_HALF = re.compile(rf"{_WRITER}-\d+-\d+\.\w+|\.{_WRITER}-\d+-\d+\.\d+(?:-\w+)?\.\w+")


class Journal:
    """The journal of results below `root` that are made by what `made_by` names."""

    def __init__(self, root: Path, made_by: str, writer: str = "0") -> None:
        self.root, self.made_by, self.writer = root, made_by, writer
        self.folder = root / FOLDER
        self._turn = threading.Lock()
        try:
            self._lines = by_output(self._files(_LINES))
        except PermissionError as error:
            raise OutputError(f"{root}: cannot be read ({error.strerror})") from None
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be read ({error.strerror})") from None

    def holds(self, source: str, output: Path) -> bool:
        """True if an earlier, unfinished run wrote this result, and it and its source are as they
        were then."""
        return describes(
            self._lines, line_of(self.made_by, source, identity(source), output, output)
        )

    def of_writer(self, writer: str) -> Journal:
        """The same journal for one of several that write at a time."""
        return Journal(self.root, self.made_by, writer)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Held by one run at a time; what others left half-written is removed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            pass  # What it is instead is told next.
        except OSError as error:
            raise OutputError(
                f"{self.root}: cannot be written ({error.strerror}); name another folder for the "
                "results with --output"
            ) from None
        make_own_folder(self.folder, _is_ours)
        with claim(self.folder, "upscaling"):
            for path in self._files(_HALF):
                path.unlink(missing_ok=True)
            yield

    def _files(self, names: re.Pattern[str]) -> list[Path]:
        if self.folder.is_symlink() or not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if names.fullmatch(path.name)]

    def place_for(self, output: Path) -> Path:
        """Path at which a result is written until `finish`; of the same format as its name says."""
        thread = f"{os.getpid()}-{threading.get_ident()}"
        return self.folder / f"{self.writer}-{thread}{output.suffix}"

    def finish(self, job: Job, read: Identity, place: Path) -> None:
        """Note a result that was written to `place`, of what was `read`, and give it its name."""
        # A process that was killed may have left its last line without an end.
        noted = line_of(self.made_by, job.source, read, job.output, place)
        line = "\n" + json.dumps(noted) + "\n"
        try:
            with self._turn, self._file.open("ab") as file:
                file.write(line.encode("ascii"))
            job.output.parent.mkdir(parents=True, exist_ok=True)
            _move(place, job.output)
        except OSError as error:
            place.unlink(missing_ok=True)
            raise OutputError(f"{job.output}: cannot be written ({error.strerror})") from None

    def close(self) -> None:
        """The run that holds it is over: only the lock is left, until it lets go of that."""
        with contextlib.suppress(OSError):
            Finished(self.root, self.made_by).note(by_output(self._files(_LINES)).values())
        for path in [*self._files(_LINES), *self._files(_HALF)]:
            path.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.writer}.jsonl"


def _move(place: Path, output: Path) -> None:
    """Rename a result, or copy it to another file system, which a tree may have mounted in it."""
    try:
        os.replace(place, output)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with replace_atomically(output) as temporary:
            # With its time, by which a journal knows it.
            shutil.copy2(place, temporary)
        place.unlink()


def _is_ours(name: str) -> bool:
    return any(names.fullmatch(name) for names in (_LINES, _HALF, _LOCK))
