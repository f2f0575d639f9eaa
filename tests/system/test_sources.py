from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from passionsr_cli.system.sources import sources_sha256


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name in ("room/a.py", "room/inner/b.py", "other/c.py", "alone.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def _digest(package: Path) -> str:
    sources_sha256.cache_clear()
    return sources_sha256("room", "alone.py", package=package)


@pytest.mark.parametrize("name", ["room/a.py", "room/inner/b.py", "alone.py"])
def test_a_changed_file_changes_the_digest(package: Path, name: str) -> None:
    before = _digest(package)
    content = (package / name).read_text()
    (package / name).write_text(content + "# changed\n")
    assert _digest(package) != before
    (package / name).write_text(content)
    assert _digest(package) == before


def test_a_file_with_another_name_changes_the_digest(package: Path) -> None:
    before = _digest(package)
    (package / "room" / "a.py").rename(package / "room" / "z.py")
    assert _digest(package) != before


def test_what_is_not_of_the_rooms_changes_nothing(package: Path) -> None:
    before = _digest(package)
    (package / "other" / "c.py").write_text("# changed\n")
    (package / "room" / "notes.txt").write_text("no code")
    assert _digest(package) == before


_PROGRAM = """
import sys, time
from passionsr_cli.graphs.made_by import image_code
started = time.process_time()
image_code("upscaling")
print(time.process_time() - started, "torch" in sys.modules)
"""


def test_it_takes_no_time_and_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    seconds, torch = done.stdout.split()
    assert torch == "False"
    assert float(seconds) < 0.02


def test_a_room_that_is_not_there_is_told(package: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no sources in"):
        sources_sha256("room", "moved", package=package)
