"""Which files go when a page or a client goes, and where they lie."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from passionsr_cli.errors import OutputError
from passionsr_cli.serving import sessions as module
from passionsr_cli.serving.sessions import Sessions, temporary_place


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"the same photograph")
    return path


def test_an_upload_goes_with_its_session(tmp_path: Path, upload: Path) -> None:
    sessions = Sessions(tmp_path)
    sessions.of("one").uploaded(upload)
    sessions.end("one")
    assert not upload.exists()
    # What is gone already is no upload.
    sessions.of("two").uploaded(upload)
    assert sessions.of("two").uploads == {}


def test_an_upload_that_another_session_works_on_stays(tmp_path: Path, upload: Path) -> None:
    sessions = Sessions(tmp_path)
    for key in ("one", "two"):
        sessions.of(key).uploaded(upload)
    os.link(upload, tmp_path / "linked.jpg")
    sessions.end("one")
    assert upload.exists()


def test_the_same_photograph_uploaded_anew_stays(tmp_path: Path, upload: Path) -> None:
    """Another session has not begun to work on it."""
    sessions = Sessions(tmp_path)
    sessions.of("one").uploaded(upload)
    anew = tmp_path / "anew"
    anew.write_bytes(b"the same photograph")
    anew.replace(upload)
    sessions.end("one")
    assert upload.exists()
    sessions.of("two").uploaded(upload)
    sessions.end("two")
    assert not upload.exists()


def test_a_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OutputError, match="set PASSIONSR_CACHE"), temporary_place():
        pass


def test_what_a_killed_server_left_is_removed_and_what_one_has_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Numbers of processes come again: in a container each server is the first."""
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path))
    left = [tmp_path / f".serve.{number}" for number in (os.getpid(), os.getppid())]
    for folder in left:
        (folder / "files").mkdir(parents=True)
        (folder / "lock").touch()
    with temporary_place() as first:
        (first / "photo.jpg").touch()
        assert first.parent.stat().st_mode & 0o777 == 0o700
        with temporary_place() as second:
            assert first != second
            assert (first / "photo.jpg").exists()
        assert list(tmp_path.iterdir()) == [first.parent]
    assert not list(tmp_path.iterdir())


def test_what_failed_leaves_no_photograph(tmp_path: Path) -> None:
    session = Sessions(tmp_path).of("one")
    with suppress(KeyboardInterrupt), session.new_folder() as folder:
        (folder / "photo.jpg").touch()
        raise KeyboardInterrupt
    assert not list(session.folder.iterdir())


def test_what_is_old_goes_and_with_it_the_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half an upload too, whatever a request called a file, and nothing that is worked on."""
    sessions = Sessions(tmp_path)
    half = tmp_path / "tmpabc"
    half.touch()
    for key in ("client", "page", "busy"):
        with sessions.of(key).new_folder() as folder:
            (folder / "result.png").touch()
    sessions.of("client").uploaded(tmp_path)
    assert not sessions.of("client").uploads
    sessions.of("page").is_page = True
    client, page, busy = (sessions.of(key) for key in ("client", "page", "busy"))
    sessions.sweep()
    assert len(list(tmp_path.rglob("result.png"))) == 3
    monkeypatch.setattr(module, "KEPT_SECONDS", -1)
    with busy.working():
        sessions.sweep()
        sessions.sweep()
    assert [path.parents[1] for path in tmp_path.rglob("result.png")] == [busy.folder]
    assert list(tmp_path.iterdir()) == [busy.folder]
    assert sessions.of("page") is page
    assert sessions.of("busy") is busy
    assert sessions.of("client") is not client
