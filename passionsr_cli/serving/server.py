"""Serve the page and the API, on this machine alone unless told otherwise, until stopped."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from passionsr_cli.errors import ConfigError
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.serving.sessions import Sessions, temporary_place
from passionsr_cli.serving.settings import LOOPBACK, ServeSettings
from passionsr_cli.serving.workroom import Workroom
from passionsr_cli.system.environment import environment_changed

PORTS = range(7860, 7960)
SWEEP_EVERY_SECONDS = 60
# Of formats without compression the widest, with as much again for metadata.
MOST_BYTES_PER_PX = 16
SMALLEST_LIMIT_BYTES = 1 << 26


def serve(settings: ServeSettings | None = None, reporter: Reporter = SILENT) -> None:
    """Serve until Ctrl-C or SIGTERM; `reporter` hears the address.

    Uploads and results are in a folder of their own below the cache, which is removed at the end.
    Raises `ConfigError` without Gradio, or for an address that cannot be listened on.
    """
    settings = settings or ServeSettings()
    port = _free_port(settings.host, settings.port)
    with temporary_place() as place, _terminated_as_interrupted():
        _prepare(place, settings.host)
        sessions = Sessions(place)
        blocks = _page(Workroom(settings), sessions)
        try:
            _launch(blocks, settings, port)
            with suppress(KeyboardInterrupt):
                reporter.note(f"{blocks.local_url.rstrip('/')} is open; Ctrl-C ends it")
                while True:
                    time.sleep(SWEEP_EVERY_SECONDS)
                    sessions.sweep()
        finally:
            sessions.stop_all()
            blocks.close(verbose=False)


def _free_port(host: str, wanted: int | None) -> int:
    """The port to listen on: Gradio would try a hundred, also of a host that is none."""
    for port in PORTS if wanted is None else [wanted]:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
            return port
        except (socket.gaierror, UnicodeError):
            raise ConfigError(f"--host {host}: no address; expected one of this machine") from None
        except OSError as error:
            reason = error.strerror
    where = f"port {wanted}" if wanted else f"the ports {PORTS.start} to {PORTS.stop - 1}"
    raise ConfigError(
        f"cannot listen on {where} of {host} ({reason}); choose another with --port or --host"
    )


def _prepare(place: Path, host: str) -> None:
    """Tell Gradio, before it is imported, to keep its files there and to call nobody."""
    # It asks its own server whether it is there, which is no business of a proxy.
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    own = ",".join(filter(None, (others, LOOPBACK, "localhost", host)))
    with environment_changed():
        os.environ["GRADIO_TEMP_DIR"] = str(place)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = own


def _page(workroom: Workroom, sessions: Sessions) -> Any:
    try:
        from passionsr_cli.serving.page import page
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ConfigError("passionsr serve needs Gradio: pip install gradio") from None
    return page(workroom, sessions)


# Gradio cuts the names of files where there is no room for them, as on a telephone. Folded they
# are plain text, in which the space between stem and suffix takes no room.
WHOLE_NAMES = """
.filename { display: block !important; overflow-wrap: anywhere; font-size: 0; }
.filename * { display: inline !important; white-space: normal !important; }
.filename * { font-size: var(--text-md); }
"""


def _in_url(host: str) -> str:
    """An address as it stands in a URL, which is how Gradio takes it, and browsers send it."""
    return f"[{host}]" if ":" in host else host


def _names(settings: ServeSettings) -> list[str]:
    """The names that requests may call the server by: a page of the internet whose name leads here
    would otherwise be let in by the browser."""
    own = [LOOPBACK, "localhost"]
    if settings.name or settings.host in own:
        return [*own, _in_url(settings.host), *settings.name]
    return ["*"]


class _Quiet:
    """Middleware that lets no request speak to the terminal: otherwise all that fails is printed
    there, with what was sent. Who goes away in the middle of an upload is no error at all."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse

        begun = False

        async def answer(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            pass
        except Exception as error:
            told = {"detail": f"the request cannot be answered ({type(error).__name__})"}
            if not begun:
                await JSONResponse(told, 400)(scope, receive, send)


def _launch(blocks: Any, settings: ServeSettings, port: int) -> None:
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    system = ("ui-sans-serif", "system-ui", "sans-serif")
    blocks.launch(
        server_name=_in_url(settings.host),
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        inline=False,
        share=False,
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        footer_links=["api"],
        app_kwargs={
            "middleware": [
                Middleware(TrustedHostMiddleware, allowed_hosts=_names(settings)),
                Middleware(_Quiet),
            ]
        },
        max_file_size=max(settings.largest_px * MOST_BYTES_PER_PX, SMALLEST_LIMIT_BYTES),
        css=WHOLE_NAMES,
        theme=gr.themes.Default(font=system, font_mono=("ui-monospace", "monospace")),
    )


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, which containers are stopped with, clean up as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
