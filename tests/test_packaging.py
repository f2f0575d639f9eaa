"""What is installed: all of it, or what upscaling needs."""

from __future__ import annotations

import re
from pathlib import Path

from passionsr_cli.terminal.console import LEFT_OUT

ROOT = Path(__file__).parents[1]


def _small() -> set[str]:
    lines = (ROOT / "requirements" / "small.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def _all() -> set[str]:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert listed
    return set(re.findall(r'"(.+?)"', listed[1]))


def test_the_small_installation_is_a_part_of_the_whole() -> None:
    assert _small() < _all()


def test_uv_leaves_out_the_same() -> None:
    lines = (ROOT / "requirements" / "left-out.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == sorted(LEFT_OUT)


def test_the_container_is_made_of_files_that_are_there() -> None:
    """And of all that the package is made of."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()
    }
    assert all((ROOT / name).exists() for name in copied)
    assert copied >= {"pyproject.toml", "README.md", "LICENSE", "configs", "passionsr_cli"}
    assert text.index("USER passionsr") < text.index("ENTRYPOINT")


def test_what_it_leaves_out_is_named_when_it_is_missed() -> None:
    left_out = {re.split("[>=<]", each)[0] for each in _all() - _small()}
    assert left_out == set(LEFT_OUT)
