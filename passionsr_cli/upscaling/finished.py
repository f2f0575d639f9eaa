"""Finished results, remembered in the cache: the same command has nothing to do again.

A file for each folder of results holds a line of JSON for each, as a journal does:

    {"made_by": …, "source": …, "read": [bytes, mtime], "output": …, "written": [bytes, mtime]}

It is believed only while result and source are as they were, so that nothing is lost with it but
the memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

from passionsr_cli.system.files import replace_atomically
from passionsr_cli.system.paths import cache_folder

FOLDER, LOCK = "finished", "lock"
# Folders into which nobody upscaled for so long are forgotten.
REMEMBERED_DAYS = 90

_NAME = re.compile(r"[0-9a-f]{24}\.jsonl")

# Size and time of a file; None where there is none, as for samples.
Identity = list[int] | None
Line = dict[str, Any]
Lines = dict[str, Line]


class Finished:
    """Results in the folder `root` that `made_by` finished."""

    def __init__(self, root: Path, made_by: str) -> None:
        self.made_by = made_by
        key = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:24]
        self._file = cache_folder() / FOLDER / f"{key}.jsonl"
        self._lines: Lines = {}
        with contextlib.suppress(OSError):
            self._lines = by_output([self._file])

    def holds(self, source: str, output: Path) -> bool:
        """True if this result was finished, and it and its source are as they were then."""
        return describes(
            self._lines, line_of(self.made_by, source, identity(source), output, output)
        )

    def line(self, output: Path) -> Line | None:
        """The line of a file that was finished here, by whatever, and is as it was then."""
        line = self._lines.get(str(output.absolute()))
        return line if line and _is_there(line) else None

    def note(self, lines: Iterable[Line]) -> None:
        """Remember results, and forget earlier ones that have changed. Where the disk is full,
        nothing."""
        folder = self._file.parent
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            # Others note at the same time; results of now may not have got their names yet.
            with FileLock(folder / LOCK):
                known = [line for line in by_output([self._file]).values() if _is_there(line)]
                kept = ({line["output"]: line for line in [*known, *lines]}).values()
                content = "".join(json.dumps(line) + "\n" for line in kept)
                with replace_atomically(self._file) as temporary:
                    temporary.write_text(content, "ascii")
            forgotten = time.time() - REMEMBERED_DAYS * 86400
            for other in folder.glob("*.jsonl"):
                if _NAME.fullmatch(other.name) and other.stat().st_mtime < forgotten:
                    other.unlink()


def line_of(made_by: str, source: str, read: Identity, output: Path, written: Path) -> Line:
    """The line of a result that lies at `written` and will be called `output`. `read` is the
    identity of its source when that was read, which may have changed since."""
    return {
        "made_by": made_by,
        "source": os.path.abspath(source),
        "read": read,
        "output": str(output.absolute()),
        "written": identity(written),
    }


def describes(lines: Lines, line: Line) -> bool:
    """Tell whether lines hold this one."""
    return lines.get(line["output"]) == line


def is_of_another(line: Line | None, source: str, output: Path) -> bool:
    """Tell whether a result is of another image than its source is now: its line says so, or, of
    one that is not remembered, that the source is newer."""
    if line is not None:
        return (line.get("source"), line.get("read")) != (
            os.path.abspath(source),
            identity(source),
        )
    read, written = identity(source), identity(output)
    return read is not None and written is not None and read[1] > written[1]


def by_output(files: Iterable[Path]) -> Lines:
    """The lines of files by the path of their results. Raises `OSError`."""
    lines: Lines = {}
    for path in sorted(path for path in files if path.exists()):
        for line in path.read_bytes().splitlines():
            # The last line of a process that was killed is none; its result has no name yet.
            with contextlib.suppress(ValueError, RecursionError):
                read = json.loads(line)
                if isinstance(read, dict) and isinstance(read.get("output"), str):
                    lines[read["output"]] = read
    return lines


def _is_there(line: Line) -> bool:
    return line.get("written") is not None and line["written"] == identity(line["output"])


def identity(path: str | Path) -> Identity:
    """Size and time of a file, which tell it from what it was before it changed."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]
