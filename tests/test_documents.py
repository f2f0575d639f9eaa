"""The documents: commands that exist, links that lead somewhere, blocks that run as they stand."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from help_page import help_page
from PIL import Image
from typer.core import TyperGroup
from typer.main import get_command

from passionsr_cli.cli.app import app
from passionsr_cli.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "passionsr_cli/**/README.md"),
    "tests/quality/*.md",
)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
# A block behind this mark is run line by line.
RUNS = re.compile(r"<!-- runs -->\n```sh\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _pages() -> list[Path]:
    return sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})


def _lines(block: str) -> Iterator[list[str]]:
    """The commands of a block as words, without comments."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


def _arguments(words: list[str]) -> list[str] | None:
    """What our command gets in a line, None if it calls another program."""
    if words[0] == "passionsr":
        return words[1:]
    return words[words.index("passionsr_cli") + 1 :] if "passionsr_cli" in words else None


def _unknown(arguments: list[str]) -> str | None:
    """The first word that names no command or no option of it."""
    command, rest = get_command(app), list(arguments)
    while isinstance(command, TyperGroup):
        if not rest or rest[0] not in command.commands:
            own = {name for each in command.params for name in each.opts} | {"--help"}
            return "" if not rest or rest[0] in own or command.invoke_without_command else rest[0]
        command = command.commands[rest.pop(0)]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return next((word for word in options if word not in {*known, "--help", "--debug"}), None)


def test_pages_are_found() -> None:
    assert len(_pages()) > 10


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_the_options_they_are_shown_with(page: Path) -> None:
    for block in SHELL.findall(page.read_text(encoding="utf-8")):
        for words in _lines(block):
            arguments = _arguments(words)
            if arguments is not None:
                assert not _unknown(arguments), shlex.join(words)


def _anchors(page: Path) -> set[str]:
    """Of the headings, as they are made of their letters, digits, spaces and hyphens."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_help_texts_are_those_of_the_commands() -> None:
    """Else run `python tests/help_page.py > docs/cli.md`."""
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == help_page()


def test_every_method_is_in_the_table_of_methods() -> None:
    page = (ROOT / "passionsr_cli" / "methods" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == sorted(METHODS)


def test_a_mistake_would_be_found() -> None:
    assert _unknown(["upscale", "a.png", "--scales", "2"]) == "--scales"
    assert _unknown(["upscal", "a.png"]) == "upscal"
    assert _unknown(["models", "show", "mini", "--jsn"]) == "--jsn"


def _photographs(folder: Path) -> None:
    """What the documents speak of, as small as it can be."""
    draw = np.random.default_rng(0)
    for name in ("photo.jpg", "a.jpg", "b.png", "holiday/one.jpg", "holiday/two.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        small = Image.fromarray(draw.integers(0, 256, (5, 6, 3), np.uint8))
        small.resize((24, 20), Image.Resampling.BICUBIC).save(folder / name)
    (folder / "scans").mkdir()
    Image.open(folder / "b.png").save(folder / "scans" / "page.tif")


@pytest.mark.parametrize(
    ("page", "number"),
    [
        pytest.param(page, number, id=f"{page.relative_to(ROOT)}-{number}")
        for page in _pages()
        for number in range(len(RUNS.findall(page.read_text(encoding="utf-8"))))
    ],
)
def test_blocks_run_when_they_are_pasted(page: Path, number: int, tmp_path: Path) -> None:
    _photographs(tmp_path)
    block = RUNS.findall(page.read_text(encoding="utf-8"))[number]
    for words in _lines(block):
        arguments = _arguments(words)
        assert arguments is not None
        command = [sys.executable, "-m", "passionsr_cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
    shutil.rmtree(tmp_path)
