"""The first results of three people, by commands of the README, in order and each timed.

    python tests/quality/first_results.py [--install] [photographer researcher engineer]

A photographer gets a larger picture and a page with sliders, a researcher a row of a table with its
pictures, an engineer an export that runs without this package. Each begins in a folder of its own
that holds `photo.jpg`, with an empty home and cache; `--install` begins with a virtual environment,
too. Exits with 1 where a command fails, a result is missing, or more commands are needed than the
most that a person puts up with.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
INSTALLING, PROGRAM = "pip install .", "python run_export.py"
PHOTOGRAPH_PX = (160, 96)


@dataclass(frozen=True)
class First:
    """Commands of a person, how many there may be, and what is missing afterwards, if anything."""

    commands: tuple[str, ...]
    most: int
    missing: Callable[[Path], str]


def _picture_and_page(folder: Path) -> str:
    (page,) = folder.glob("*_compare.html")
    urls = page.read_text(encoding="utf-8").count("data:image/webp")
    return _picture(folder) or ("" if urls >= 2 else "the page has no two versions")


def _picture(folder: Path) -> str:
    size = Image.open(folder / "photo_x4.png").size
    return "" if size == tuple(4 * side for side in PHOTOGRAPH_PX) else f"the picture has {size}"


def _row_with_pictures(folder: Path) -> str:
    (report,) = folder.rglob("report.html")
    page = report.read_text(encoding="utf-8")
    rows = len(re.findall(r"<tr>", page)) > 1 and "mini" in page
    return "" if rows and "data:image/" in page else "the report has no row with pictures"


PEOPLE = {
    "photographer": First(
        (
            INSTALLING,
            "passionsr upscale photo.jpg",
            "passionsr upscale photo.jpg --compare --overwrite",
        ),
        3,
        _picture_and_page,
    ),
    "researcher": First((INSTALLING, "passionsr evaluate"), 6, _row_with_pictures),
    "engineer": First((INSTALLING, "passionsr export mini-w8a8", PROGRAM), 8, _picture),
}


def not_in_the_documents(person: First) -> list[str]:
    """Commands that the README does not show."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = {line.partition("#")[0].strip() for line in page.replace(" && ", "\n").splitlines()}
    return [command for command in person.commands if command not in (*shown, PROGRAM)]


def _programs(folder: Path) -> None:
    """What there is at the beginning: a photograph, and the program that the export's page has."""
    photograph = Image.open(ROOT / "docs" / "contact-sheet.jpg")
    photograph.resize(PHOTOGRAPH_PX).save(folder / "photo.jpg")
    page = (ROOT / "passionsr_cli" / "exports" / "README.md").read_text(encoding="utf-8")
    block = page.partition("<!-- run the OpenVINO export -->\n```python\n")[2].partition("```")[0]
    (folder / "run_export.py").write_text(block.replace("photo.png", "photo.jpg"))


def try_out(person: First, install: bool) -> str:
    """Run the commands of a person and print how long each took. Returns what went wrong."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "work"
        folder.mkdir()
        _programs(folder)
        environment = {**os.environ, "PASSIONSR_HOME": f"{place}/home"}
        environment |= {"PASSIONSR_CACHE": f"{place}/cache"}
        python = sys.executable
        if install:
            subprocess.run([sys.executable, "-m", "venv", f"{place}/venv"], check=True)
            python = f"{place}/venv/bin/python"
            environment.pop("PYTHONPATH", None)
        for command in person.commands:
            if command == INSTALLING and not install:
                print(f"| `{command}` | not run |", flush=True)
                continue
            program, *arguments = shlex.split(command)
            modules = {"passionsr": ["-m", "passionsr_cli"], "pip": ["-m", "pip"], "python": []}
            where = ROOT if command == INSTALLING else folder
            started = time.perf_counter()
            done = subprocess.run(
                [python, *modules[program], *arguments],
                cwd=where,
                env=environment,
                capture_output=True,
                text=True,
            )
            print(f"| `{command}` | {time.perf_counter() - started:.1f} |", flush=True)
            if done.returncode:
                return f"{command}: {done.stderr.strip().splitlines()[-1]}"
        try:
            return person.missing(folder)
        except (OSError, ValueError) as error:
            return f"a result is missing: {error}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("people", nargs="*", default=list(PEOPLE), help=", ".join(PEOPLE))
    parser.add_argument("--install", action="store_true")
    given = parser.parse_args()
    wrong = []
    print("| command | seconds |\n|---|---|")
    for name in given.people:
        person = PEOPLE[name]
        wrong += [f"{name}: the README has no {x}" for x in not_in_the_documents(person)]
        if len(person.commands) > person.most:
            wrong.append(f"{name}: {len(person.commands)} commands, {person.most} at most")
        said = try_out(person, given.install)
        wrong += [f"{name}: {said}"] if said else []
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
