from __future__ import annotations

import ast
from pathlib import Path

import pytest

import passionsr_cli
from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.graphs import made_by
from passionsr_cli.inference.open import nncf_folder
from passionsr_cli.store import MODEL

PACKAGE = Path(passionsr_cli.__file__).parent
# Nothing that is computed depends on these: errors, files and memory, settings, their pictures.
NOT_OF_NUMBERS = {"errors", "system", "progress", "layering", "config", "data", "imaging", "pixels"}


def _imported(place: str) -> set[str]:
    paths = [PACKAGE / place] if place.endswith(".py") else (PACKAGE / place).rglob("*.py")
    modules = {
        node.module
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("passionsr_cli.")
    }
    return {module.split(".")[1] for module in modules}


def test_the_graphs_key_holds_every_room_that_their_code_imports() -> None:
    named = {place.removesuffix(".py") for place in made_by.GRAPH_PLACES}
    for place in made_by.GRAPH_PLACES:
        assert _imported(place) <= named | NOT_OF_NUMBERS


def test_every_place_exists() -> None:
    assert all((PACKAGE / place).exists() for place in made_by.IMAGE_PLACES)


def test_other_code_means_other_graphs(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve(str(tiny_folder), MODEL)
    monkeypatch.setattr("passionsr_cli.inference.open.version", lambda package: "1")
    before = nncf_folder(source)
    assert nncf_folder(source) == before
    monkeypatch.setattr("passionsr_cli.inference.open.graph_code", lambda: "of other sources")
    assert nncf_folder(source) != before
