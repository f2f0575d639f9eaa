"""Handlers of the page's events and of the API: from requests to results, views and errors."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from passionsr_cli.errors import ImageError, PassionSRError
from passionsr_cli.progress import NO_DETAILS, Silent
from passionsr_cli.serving import views
from passionsr_cli.serving.choices import choices, choose
from passionsr_cli.serving.sessions import Session, Sessions
from passionsr_cli.serving.workroom import Workroom
from passionsr_cli.upscaling.images import Done

# Gradio finds the parameter that shows progress by its default.
PROGRESS = gr.Progress()
MIDDLE = 50
FILE_EXPECTED = (
    'expected {"path": PATH, "meta": {"_type": "gradio.FileData"}}, where PATH is what an upload '
    "to /gradio_api/upload was answered with"
)


class _StoppedError(Exception):
    """The person has stopped it, or closed the page."""


class _Heard(Silent):
    """Shows the progress of one image of several, and ends it when its session is stopped."""

    def __init__(
        self, progress: Any, session: Session, asked_at: float, number: int = 0, count: int = 1
    ) -> None:
        self._progress, self._session, self._asked_at = progress, session, asked_at
        self._number, self._count = number, count

    def started(self, task: str, total: float | None = None) -> None:
        self._show(0, task if total is None else "")

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        self.go_on()
        self._show(done)

    def go_on(self) -> None:
        """Raise `_StoppedError` if it was stopped."""
        if self._asked_at <= self._session.stopped_at:
            raise _StoppedError

    def note(self, text: str) -> None:
        gr.Info(html.escape(text.replace(f"{self._session.folder}/", "")))

    def _show(self, done: float, what: str = "") -> None:
        of = f"photograph {self._number + 1} of {self._count}" if self._count > 1 else "upscaling"
        self._progress((self._number + min(done, 1.0)) / self._count, desc=what or of)


class Handlers:
    """The handlers of one server's events."""

    def __init__(self, workroom: Workroom, sessions: Sessions) -> None:
        self._workroom, self._sessions = workroom, sessions

    def opened(self, request: gr.Request) -> Any:
        """A page was opened: the list of models and checkpoints, as it is now."""
        self._sessions.of(request.session_hash).is_page = True
        return gr.Dropdown(choices=list(choices()))

    def dial(self, model: str) -> Any:
        """The dial of a model, at its own setting; hidden where it has none."""
        realism = choose(model).realism
        return gr.Slider(value=realism or 0.0, visible=realism is not None)

    def upscale_all(
        self,
        request: gr.Request,
        photographs: list[dict[str, Any]] | None,
        model: str,
        realism: float,
        scale: float,
        format: str,
        asked_at: float,
        progress: Any = PROGRESS,
    ) -> Iterator[tuple[Any, ...]]:
        """Upscale what was dropped, one by one; shows each result as soon as it is there.

        `asked_at` is the time of the page's clock when it was asked for: it may have been stopped
        while it waited for its turn.
        """
        if not photographs:
            raise gr.Error("drop a photograph first", print_exception=False)
        session = self._sessions.of(request.session_hash)
        failures = []
        with session.working():
            for number, photograph in enumerate(photographs):
                heard = _Heard(progress, session, asked_at, number, len(photographs))
                try:
                    heard.go_on()
                    if number == 0:
                        session.begin()
                    dial = realism if choose(model).realism is not None else None
                    done = self._upscaled(photograph, session, heard, model, dial, scale, format)
                except _StoppedError:
                    gr.Info("stopped")
                    break
                except PassionSRError as error:
                    failures.append(html.escape(str(error)))
                    continue
                yield self._results(session, session.keep(done))
        for failure in failures[: len(failures) if session.done else -1]:
            gr.Warning(failure, duration=None)
        if failures and not session.done:
            raise gr.Error(failures[-1], duration=None, print_exception=False)

    def upscale_one(
        self,
        request: gr.Request,
        photo: dict[str, Any] | None,
        model: str | None = None,
        realism: float | None = None,
        scale: float | None = None,
        format: str | None = None,
    ) -> str:
        """Upscale one photograph for a client; what is left out is as in `passionsr upscale`."""
        if not photo:
            raise gr.Error(f"no photo; {FILE_EXPECTED}", print_exception=False)
        session = self._sessions.of(request.session_hash)
        heard = _Heard(PROGRESS, session, asked_at=0)
        try:
            with session.working():
                done = self._upscaled(photo, session, heard, model, realism, scale, format)
        except PassionSRError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except _StoppedError:
            raise gr.Error("stopped", print_exception=False) from None
        # A page shows it beside its result; nobody else needs it.
        Path(done.source).unlink(missing_ok=True)
        return str(done.output)

    def stop(self, request: gr.Request, now: float) -> None:
        """End what the session has asked for until `now`: what is under way at its next tile, what
        waits when its turn comes."""
        self._sessions.of(request.session_hash).stopped_at = now

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self._sessions.end(request.session_hash)

    def show(self, request: gr.Request, name: str) -> tuple[Any, ...]:
        """Views of another of the results."""
        return _views(self._shown(request, name))

    def look(self, request: gr.Request, name: str | None, across: float, down: float) -> Any:
        """Another place of a result, at pixels; `across` and `down` in percent."""
        done = self._shown(request, name)
        try:
            return _paths(views.at_pixels(done, across / 100, down / 100))
        except ImageError as error:
            gr.Info(html.escape(str(error)))
            return None

    def _shown(self, request: gr.Request, name: str | None) -> Done:
        """The result of this name; the last one where the page names none, having no list."""
        results = self._sessions.of(request.session_hash).done
        if not results:
            raise gr.Error("upscale a photograph first", print_exception=False)
        return results.get(name or "", list(results.values())[-1])

    def _upscaled(
        self,
        photograph: dict[str, Any],
        session: Session,
        heard: _Heard,
        model: str | None,
        realism: float | None,
        scale: float | None,
        format: str | None,
    ) -> Done:
        settings = self._workroom.settings(model, realism, scale, format)
        path, name = Path(photograph["path"]), photograph.get("orig_name")
        session.uploaded(path)
        with session.new_folder() as folder:
            return self._workroom.upscale(path, name, folder, settings, heard)

    def _results(self, session: Session, shown: str) -> tuple[Any, ...]:
        files = [str(done.output) for done in session.done.values()]
        names = list(session.done)
        dropdown = gr.Dropdown(choices=names, value=shown, visible=len(names) > 1)
        return files, dropdown, *_views(session.done[shown])


def _views(done: Done) -> tuple[Any, ...]:
    """Values of both sliders, and of where the second one looks."""
    try:
        found = views.whole(done), views.at_pixels(done, MIDDLE / 100, MIDDLE / 100)
    except ImageError as error:
        gr.Info(html.escape(str(error)))
        return None, None, MIDDLE, MIDDLE
    return _paths(found[0]), _paths(found[1]), MIDDLE, MIDDLE


def _paths(pair: views.Views) -> tuple[str, str]:
    return str(pair[0]), str(pair[1])
