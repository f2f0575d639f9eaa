"""Handlers without a server: what was stopped, and what went wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from visiting import NO_GRADIO

from passionsr_cli.errors import ImageError
from passionsr_cli.serving.sessions import Sessions
from passionsr_cli.upscaling.images import Done

pytestmark = pytest.mark.skipif(NO_GRADIO, reason="gradio is not installed")
PAGE: Any = SimpleNamespace(session_hash="a page")


class _Workroom:
    """Fails, as it would for a file that is no photograph."""

    def settings(self, *options: object) -> None:
        return None

    def upscale(self, upload: Path, name: str, folder: Path, *more: object) -> Done:
        (folder / name).touch()
        raise ImageError(f"{name}: no photograph")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    import gradio as gr

    told: list[str] = []
    monkeypatch.setattr(gr, "Info", told.append)
    return told


def _handlers(folder: Path) -> tuple[Any, Sessions]:
    from passionsr_cli.serving.handlers import Handlers

    sessions = Sessions(folder)
    workroom: Any = _Workroom()
    return Handlers(workroom, sessions), sessions


def test_what_was_stopped_while_it_waited_is_not_begun(tmp_path: Path, said: list[str]) -> None:
    import gradio as gr

    handlers, sessions = _handlers(tmp_path)
    before = Done("in.png", tmp_path / "out.png", (1, 1), (4, 4), 1.0, 1)
    sessions.of("a page").done["out.png"] = before
    handlers.stop(PAGE, 2.0)
    asked = [{"path": str(tmp_path / "photo.jpg"), "orig_name": "photo.jpg"}], "mini", 0, 4, "png"
    assert not list(handlers.upscale_all(PAGE, *asked, asked_at=1.0))
    assert said == ["stopped"]
    assert list(sessions.of("a page").done.values()) == [before]
    # What is asked for afterwards is tried, and what fails leaves no photograph.
    with pytest.raises(gr.Error, match="no photograph"):
        list(handlers.upscale_all(PAGE, *asked, asked_at=3.0))
    assert not list(tmp_path.rglob("photo.jpg"))


def test_a_place_that_cannot_be_shown_is_told(tmp_path: Path, said: list[str]) -> None:
    handlers, sessions = _handlers(tmp_path)
    done = Done("in.png", tmp_path / "out.png", (9, 9), (36, 36), 1.0, 1)
    sessions.of("a page").done["out.png"] = done
    assert handlers.look(PAGE, "out.png", 50, 50) is None
    assert said == ["out.png: is no longer here; upscale the photograph again"]
