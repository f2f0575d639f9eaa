"""What a run over many images has finished, so that the same command goes on where it stopped.

While a run is not over, the folder of its results holds `.passionsr`: a lock, results that are
being written, and lines of JSON, one for each finished image, in a file for each writer:

    {"made_by": …, "source": …, "read": [bytes, mtime], "output": …, "written": [bytes, mtime]}

A line is written when the result is whole but has not got its name yet. Renaming keeps size and
time, so a result that a line describes is the one this run wrote, however it was ended.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from passionsr_cli.errors import OutputError
from passionsr_cli.imaging.planning import Job

FOLDER = ".passionsr"


class Journal:
    """The journal of results below `root` that are made by what `made_by` names."""

    def __init__(self, root: Path, made_by: str, writer: str = "0") -> None:
        self.root, self.made_by, self.writer = root, made_by, writer
        self.folder = root / FOLDER
        self._turn = threading.Lock()
        self._lines = {line["output"]: line for line in self._read()}

    def holds(self, source: str, output: Path) -> bool:
        """Whether an earlier, unfinished run wrote this result, and it and its source are as they
        were then."""
        line = self._lines.get(str(output.absolute()))
        return line is not None and line == self._line(source, output, output)

    def of_writer(self, writer: str) -> Journal:
        """The same journal for one of several that write at a time."""
        return Journal(self.root, self.made_by, writer)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Held by one run at a time; what others left half-written is removed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.root}: cannot be written ({error.strerror})") from None
        lock = FileLock(self.folder / "lock", timeout=0)
        try:
            with lock:
                for path in self._left_over():
                    path.unlink(missing_ok=True)
                yield
        except Timeout:
            raise OutputError(
                f"{self.root}: another run is writing there; wait for it, or end it"
            ) from None

    def _left_over(self) -> list[Path]:
        kept = (".jsonl", "")
        return [path for path in self.folder.iterdir() if path.suffix not in kept]

    def place_for(self, output: Path) -> Path:
        """Where a result is written until `finish`; of the same format as its name says."""
        return self.folder / f"{self.writer}-{threading.get_ident()}{output.suffix}"

    def finish(self, job: Job, place: Path) -> None:
        """Note a result that was written to `place`, and give it its name."""
        # A process that was killed may have left its last line without an end.
        line = "\n" + json.dumps(self._line(job.source, job.output, place)) + "\n"
        try:
            with self._turn, self._file.open("ab") as file:
                file.write(line.encode("ascii"))
            job.output.parent.mkdir(parents=True, exist_ok=True)
            os.replace(place, job.output)
        except OSError as error:
            place.unlink(missing_ok=True)
            raise OutputError(f"{job.output}: cannot be written ({error.strerror})") from None

    def close(self) -> None:
        """The run is over: nothing of the journal remains."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.writer}.jsonl"

    def _line(self, source: str, output: Path, written: Path) -> dict[str, Any]:
        return {
            "made_by": self.made_by,
            "source": os.path.abspath(source),
            "read": _identity(Path(source)),
            "output": str(output.absolute()),
            "written": _identity(written),
        }

    def _read(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    # The last line of a process that was killed; its result has no name yet.
                    continue


def _identity(path: Path) -> list[int] | None:
    """Size and time of a file, None where there is none (as for samples)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
