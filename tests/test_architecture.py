"""The import rule of the design: rooms import downwards only, never their neighbours."""

from __future__ import annotations

import ast
from pathlib import Path

import passionsr_cli

PACKAGE = Path(passionsr_cli.__file__).parent
LEVELS = (
    ("errors", "_version"),
    ("system",),
    ("registry",),
    ("config", "store"),
    ("quantization", "imaging", "fitting", "metrics"),
    ("data", "models"),
    ("methods", "checkpoints"),
    ("calibration", "conversion"),
    ("inference",),
    ("evaluation", "export", "training", "benchmark", "upscaling"),
    ("reproduction",),
    ("api",),
    ("cli",),
    ("__main__",),
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "passionsr_cli":
                rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return rooms - {"__version__"}


def test_imports_point_down_only() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room == "__init__":
            continue
        assert room in LEVEL_OF, f"{room} has no place in the design"
        for other in _imported_rooms(path) - {room}:
            if LEVEL_OF[other] >= LEVEL_OF[room]:
                wrong.append(f"{path.name}: {room} imports {other}")
    assert not wrong


def test_bottom_rooms_import_no_torch() -> None:
    for path in ("errors.py", "system/files.py", "registry.py", "config.py"):
        source = (PACKAGE / path).read_text(encoding="utf-8")
        assert "import torch" not in source


def test_files_stay_short() -> None:
    long = {
        path.name: count
        for path in PACKAGE.rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 320
    }
    assert not long
