"""The rules of the design: rooms import downwards only, never their neighbours, and stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import passionsr_cli

PACKAGE = Path(passionsr_cli.__file__).parent
NAME = PACKAGE.name
LEVELS = (
    ("errors", "_version", "progress"),
    ("system",),
    ("description", "budget", "bits", "pages"),
    ("registry",),
    ("config", "layering", "store", "metadata", "pixels"),
    ("quantization", "imaging", "fitting", "metrics"),
    ("layers",),
    ("data", "models", "triton_kernels"),
    ("published",),
    ("methods", "checkpoints"),
    ("allocation",),
    ("forecast",),
    ("calibration", "conversion"),
    ("graphs",),
    ("inference",),
    ("tiling",),
    ("evaluation", "exports", "training", "benchmark", "upscaling"),
    ("retiming",),
    ("reproduction", "comparison", "serving"),
    ("api", "terminal"),
    ("cli",),
    ("__main__",),
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
MOST_LINES, MOST_LINES_OF_A_ROOM, MOST_LINES_OF_THE_VERBS = 300, 2000, 130
# What is read before anything is computed.
WITHOUT_TORCH = (
    *(
        "errors.py",
        "progress.py",
        "registry.py",
        "budget.py",
        "bits.py",
        "config.py",
        "layering.py",
    ),
    *("system", "metadata", "pixels", "imaging", "terminal", "cli"),
    *("quantization/schemes.py", "models/catalogue.py", "checkpoints/catalogue.py"),
    *("checkpoints/manifest.py", "methods", "upscaling/planning.py", "api.py"),
)


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all modules a file imports, however it does; unknown parts are left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Such names reach import_module, or a child process, as text.
            name = node.value.partition(":")[0]
            if re.fullmatch(rf"{NAME}(\.\w+)+", name):
                yield name


def _rooms(path: Path) -> set[str]:
    names = _imported(ast.parse(path.read_text(encoding="utf-8")))
    parts = [name.split(".") for name in names]
    rooms = {found[1] for found in parts if found[0] == NAME and len(found) > 1}
    return rooms - {"__version__", "__init__"}


def test_imports_point_down_only() -> None:
    wrong = []
    for path in _sources():
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room == "__init__":
            continue
        assert room in LEVEL_OF, f"{room} has no place in the design"
        for other in _rooms(path) - {room}:
            if LEVEL_OF[other] >= LEVEL_OF[room]:
                wrong.append(f"{path.name}: {room} imports {other}")
    assert not wrong


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import passionsr_cli.cli.app", {"passionsr_cli.cli.app"}),
        ("from passionsr_cli import methods", {"passionsr_cli.methods"}),
        ("import_module('passionsr_cli.training.run')", {"passionsr_cli.training.run"}),
        ("run_child('passionsr_cli.models.catalogue:find')", {"passionsr_cli.models.catalogue"}),
        ("'passionsr_cli.txt is no module:'", set()),
    ],
)
def test_imports_are_seen_however_they_are_written(source: str, found: set[str]) -> None:
    assert set(_imported(ast.parse(source))) == found


def _at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, but for those of type checkers."""
    for node in tree.body:
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield node


@pytest.mark.parametrize("place", WITHOUT_TORCH)
def test_no_torch_where_nothing_is_computed(place: str) -> None:
    path = PACKAGE / place
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for node in _at_import(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                roots = {name.partition(".")[0] for name in _imported(node)}
                assert not roots & {"torch", "diffusers", "accelerate", "pyiqa"}, file


def test_files_and_rooms_stay_small() -> None:
    long = {path.name: _lines(path) for path in _sources() if _lines(path) > MOST_LINES}
    assert not long
    rooms = {
        room.name: sum(map(_lines, room.rglob("*.py")))
        for room in PACKAGE.iterdir()
        if room.is_dir()
    }
    assert not {room: size for room, size in rooms.items() if size > MOST_LINES_OF_A_ROOM}
    assert _lines(PACKAGE / "api.py") <= MOST_LINES_OF_THE_VERBS


def test_the_drawing_of_the_house_is_the_real_one() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawing = text.partition("passionsr_cli/\n")[2].partition("\ntests/")[0]
    drawn = re.findall(r"^  (\w+)(?:/|\.py)", drawing, re.MULTILINE)
    assert sorted(drawn) == sorted(LEVEL_OF.keys() - {"__main__"})


def _listed(page: str) -> list[str]:
    """The files and folders that a room's page has a line for."""
    return re.findall(r"^- `([\w.-]+/?)`: \S", page.partition("## Files\n")[2], re.MULTILINE)


@pytest.mark.parametrize("room", sorted({path.parent.name for path in PACKAGE.glob("*/*.py")}))
def test_every_room_has_a_page_with_a_line_for_each_file(room: str) -> None:
    page = (PACKAGE / room / "README.md").read_text(encoding="utf-8")
    there = {
        path.name + "/" * path.is_dir()
        for path in (PACKAGE / room).iterdir()
        if path.name not in ("README.md", "__init__.py", "__pycache__")
    }
    assert sorted(_listed(page)) == sorted(there)


def test_lines_of_a_page_are_found() -> None:
    page = "- `before.py`: no\n\n## Files\n\n- `one.py`: first\n- `two/`: second\n- `empty.py`:\n"
    assert _listed(page) == ["one.py", "two/"]


def _openings(path: Path) -> Iterator[tuple[str, str]]:
    """(name, first line) of the docstrings of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = getattr(node, "name", path.stem)
            if text := ast.get_docstring(node):
                yield name, text.splitlines()[0]


def test_docstrings_open_with_what_a_searcher_would_type() -> None:
    questions = ("What ", "How ", "Whether ", "Where ")
    found = {
        f"{path.relative_to(PACKAGE)}: {name}": first
        for path in _sources()
        for name, first in _openings(path)
        if first.startswith(questions)
    }
    assert not found
