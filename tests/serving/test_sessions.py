"""Which files go when a page or a client goes, and where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from passionsr_cli.errors import OutputError
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
