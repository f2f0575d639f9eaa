from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from passionsr_cli.errors import OutputError
from passionsr_cli.system.files import (
    remove,
    replace_atomically,
    temporary_beside,
    temporary_space,
)


def _ended() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def _stopped_half_way(path: Path) -> None:
    with replace_atomically(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_what_ended_processes_left_is_removed(tmp_path: Path) -> None:
    ended, running = _ended(), os.getppid()
    for name in (f".out.{ended}", f".out.{ended}-0a1b2c3d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    kept = [f".out.{running}", f".other.{ended}", f".out.{ended}.jpg", ".out.x", "out"]
    for name in kept:
        (tmp_path / name).write_text("kept")
    temporary = temporary_beside(tmp_path / "out.png")
    assert re.fullmatch(rf"\.out\.{os.getpid()}-\w+\.png", temporary.name)
    temporary_beside(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_what_one_with_the_same_number_left_is_removed(tmp_path: Path) -> None:
    """Each container begins with process 1."""
    for left in (tmp_path / f".out.{os.getpid()}{end}" for end in ("", "-0a1b2c3d")):
        left.mkdir()
        temporary_beside(tmp_path / "out")
        assert not left.exists()
    with replace_atomically(tmp_path / "out") as temporary:
        temporary.write_text("written now")
        temporary_beside(tmp_path / "out")
        assert temporary.exists()


def test_whoever_writes_the_same_file_at_once_writes_another_temporary(tmp_path: Path) -> None:
    """Threads, and processes of the same number in containers."""
    path = tmp_path / "out.png"
    with replace_atomically(path) as first, first.open("w") as file:
        with replace_atomically(path) as second:
            second.write_text("second")
        file.write("first, whole")
    assert path.read_text() == "first, whole"
    assert [found.name for found in tmp_path.iterdir()] == ["out.png"]


def test_what_was_killed_and_not_asked_for_has_ended(tmp_path: Path) -> None:
    """In a container without an init such processes stay."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    # Ended, but not yet reaped.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    left = tmp_path / f".out.{process.pid}.png"
    left.touch()
    temporary_beside(tmp_path / "out.png")
    process.wait()
    assert not left.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("iostream error")])
def test_a_full_disk_of_temporary_files_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = pytest.raises(OutputError, match=rf"^{tmp_path}: .*(No space|iostream).* set TMPDIR")
    with told, temporary_space():
        raise error
    with pytest.raises(MemoryError), temporary_space():
        raise MemoryError


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other" / "letter").exists()


def test_a_link_in_a_temporary_s_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("keep me")
    for process in (os.getpid(), os.getppid()):
        (tmp_path / f".out.{process}.png").symlink_to(tmp_path / "letter")
    with replace_atomically(tmp_path / "out.png") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "letter").read_text() == "keep me"
    assert {path.name for path in tmp_path.iterdir()} == {"letter", "out.png"}
    assert not (tmp_path / "out.png").is_symlink()


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "é" * 125 + ".png"])
def test_the_longest_names_are_written(tmp_path: Path, name: str) -> None:
    with replace_atomically(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a [1].txt"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        _stopped_half_way(path)
    assert path.read_text() == "before"
    with replace_atomically(path) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
