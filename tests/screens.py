"""A terminal of so many columns: what a person sees of a command at its end, and what passed by."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

# Text, or one of the few things that rich asks of a terminal.
_PIECE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def run_on_terminal(
    command: list[str], columns: int, folder: Path, **environment: str
) -> tuple[int, str]:
    """Exit code of a command whose streams are all one terminal, and everything it wrote there."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    values = {**os.environ, "TERM": "xterm", **environment}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        values.pop(name, None)
    options: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(
        [sys.executable, "-m", "passionsr_cli", *command], cwd=folder, env=values, **options
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.close(ours)
    return process.wait(), written.decode()


def screen(written: str, columns: int) -> list[str]:
    """The lines that are left on a terminal, from the first, after all that was written to it."""
    lines, row, column = [""], 0, 0

    def put(text: str) -> None:
        nonlocal row, column
        for letter in text:
            if column == columns:
                row, column = row + 1, 0
            while row >= len(lines):
                lines.append("")
            line = lines[row].ljust(column)
            lines[row] = line[:column] + letter + line[column + 1 :]
            column += 1

    for numbers, verb, control, text in _PIECE.findall(written):
        count = int(numbers) if numbers.isdecimal() else 1
        if text:
            put(text)
        elif control == "\r":
            column = 0
        elif control == "\n":
            row += 1
            while row >= len(lines):
                lines.append("")
        elif verb == "A":
            row = max(0, row - count)
        elif verb == "B":
            row += count
        elif verb == "K":
            lines[row] = "" if numbers == "2" else lines[row][:column]
        else:
            # Colours, and whether the cursor shows.
            assert verb in "mhl", verb
    return [line.rstrip() for line in lines]
