"""`passionsr serve` without a browser: addresses, the API, and what it leaves behind."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner
from visiting import NO_GRADIO, Server, environment_of, serving, wait_for

from passionsr_cli.cli.app import app
from passionsr_cli.models.catalogue import known_models
from passionsr_cli.serving import server as module
from passionsr_cli.serving.settings import ServeSettings

README = Path(__file__).parents[2] / "passionsr_cli" / "serving" / "README.md"
needs_gradio = pytest.mark.skipif(NO_GRADIO, reason="gradio is not installed")


def _client(server: Server, folder: Path) -> Any:
    from gradio_client import Client

    return Client(server.url, analytics_enabled=False, verbose=False, download_files=folder)


def test_without_gradio_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "gradio.py").write_text("raise ModuleNotFoundError('no', name='gradio')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "passionsr_cli", "serve"],
        env={**environment_of(tmp_path), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    expected = "error: passionsr serve needs Gradio: pip install gradio\n"
    assert done.stderr == expected


def test_a_port_that_is_taken_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["serve", "--port", str(port)])
    assert done.exit_code == 2
    assert f"cannot listen on port {port} of 127.0.0.1 (Address already in use)" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "no such host"], "--host no such host: no address"),
        (["--host", "192.0.2.1"], "cannot listen on the ports 7860 to 7959 of 192.0.2.1"),
        (["--port", "70000"], "--port: found '70000', expected less than or equal to 65535"),
        (["--max-megapixels", "0"], "--max-megapixels: found '0.0', expected greater than 0"),
        (["--name", "a:80"], "--name: found 'a:80', expected a name alone, such as photos"),
        (["--queue", "0"], "--queue: found '0', expected greater than 0"),
    ],
)
def test_what_cannot_be_served(options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["serve", *options])
    assert done.exit_code == 2
    assert message in done.stderr


def _ask(server: Server, path: str, body: bytes | None = None, kind: str = "") -> str:
    """What a program without Gradio's client is answered."""
    headers = {"Content-Type": kind} if body else {}
    asked = urllib.request.Request(f"{server.url}/gradio_api/{path}", body, headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked) as answer:
        return str(answer.read().decode())


FORM = "multipart/form-data; boundary=B"
PART = b'--B\r\nContent-Disposition: form-data; name="files"; filename="photo.jpg"\r\n\r\n'


def _uploaded(server: Server, content: bytes) -> str:
    """The path by which a request names the file."""
    (path,) = json.loads(_ask(server, "upload", PART + content + b"\r\n--B--\r\n", FORM))
    return str(path)


def _photo(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _called(server: Server, *values: object) -> tuple[str, Any]:
    """How a call ends, as curl hears it, and with what."""
    body = json.dumps({"data": values}).encode()
    number = json.loads(_ask(server, "call/upscale", body, "application/json"))["event_id"]
    event, data = _ask(server, f"call/upscale/{number}").strip().splitlines()[-2:]
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_a_photograph_is_enough(server: Server, photograph: Path) -> None:
    event, data = _called(server, _photo(_uploaded(server, photograph.read_bytes())))
    assert event == "complete"
    assert Path(data[0]["path"]).read_bytes() == server.expected(photograph)


def test_what_is_wrong_with_a_call_is_named(server: Server) -> None:
    path = _uploaded(server, b"no photograph")
    for values, message in [
        ((), "no photo; expected {"),
        (("photo.jpg",), "no file; expected {"),
        ((_photo("/etc/passwd"),), "/etc/passwd: no file that was uploaded here; expected {"),
        ((_photo(path),), "photo.jpg: not an image file that can be read"),
    ]:
        event, data = _called(server, *values)
        assert event == "error"
        assert message in data["error"]
    # Of what is refused only the upload stays, until it is old.
    assert Path(path).stat().st_nlink == 1


def test_the_documented_call_gives_the_commands_file(
    server: Server, tmp_path: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    call = block[1].replace("http://127.0.0.1:7860", server.url)
    monkeypatch.chdir(tmp_path)
    shutil.copy(photograph, "photo.jpg")
    found: dict[str, Any] = {}
    exec(compile(call, str(README), "exec"), found)
    expected = server.expected(photograph, "--realism", "0")
    assert Path(found["result"]).read_bytes() == expected


def test_settings_of_a_call_are_those_of_the_command(
    server: Server, tmp_path: Path, photograph: Path
) -> None:
    from gradio_client import handle_file

    client = _client(server, tmp_path / "client")
    photo = handle_file(str(photograph))
    result = Path(client.predict(photo, "mini-w8a8", 0.75, 2, api_name="/upscale"))
    options = ("--checkpoint", "mini-w8a8", "--realism", "0.75", "--scale", "2")
    assert result.read_bytes() == server.expected(photograph, *options)
    assert result.name == "Käse (1) #2_x2.png"
    with Image.open(result) as image:
        assert image.getexif()[0x010F] == "A camera"
    result = Path(client.predict(photo, None, None, None, "same", api_name="/upscale"))
    assert result.name == "Käse (1) #2_x4.jpg"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("nobody",), "there is no model or checkpoint 'nobody' here"),
        (("/etc",), "there is no model or checkpoint '/etc' here"),
        ((None, 2), "realism: found '2', expected less than or equal to 1"),
        ((None, None, 9), "scale: found '9', expected less than or equal to 8"),
        ((None, None, None, "psd"), "format: found 'psd', expected 'same', 'png'"),
    ],
)
def test_errors_of_a_call_are_the_commands(
    values: tuple[Any, ...], message: str, server: Server, tmp_path: Path, photograph: Path
) -> None:
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    client = _client(server, tmp_path / "client")
    with pytest.raises(AppError, match=re.escape(message)):
        client.predict(handle_file(str(photograph)), *values, api_name="/upscale")


@needs_gradio
def test_no_input_is_fetched_from_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for the API nor for events of the page, wherever in a request it stands."""
    import gradio as gr

    from passionsr_cli.serving.page import page
    from passionsr_cli.serving.sessions import Sessions
    from passionsr_cli.serving.workroom import Workroom

    fetched: list[object] = []

    async def fetch(self: object, address: object) -> None:
        fetched.append(address)

    monkeypatch.setattr(gr.blocks.Block, "async_move_resource_to_block_cache", fetch)
    blocks = page(Workroom(ServeSettings()), Sessions(tmp_path))
    file = {"path": "HTTP://192.0.2.1/a.png", "meta": {"_type": "gradio.FileData"}}
    events = [event for event in blocks.fns.values() if event.inputs]
    assert len(events) >= 6
    for event in events:
        for place in range(len(event.inputs)):
            for value in (file, [file], {"deep": [{"er": file}]}):
                values: list[Any] = [None] * len(event.inputs)
                values[place] = value
                with pytest.raises(gr.Error, match="an address, not a file; download it"):
                    asyncio.run(blocks.preprocess_data(event, values, None))
    assert fetched == []


@needs_gradio
def test_the_dial_can_be_set_back_to_the_default_of_every_model(tmp_path: Path) -> None:
    import gradio as gr

    from passionsr_cli.serving.page import page
    from passionsr_cli.serving.sessions import Sessions
    from passionsr_cli.serving.workroom import Workroom

    blocks = page(Workroom(ServeSettings()), Sessions(tmp_path)).blocks.values()
    (dial,) = [each for each in blocks if isinstance(each, gr.Slider) and each.label == "Realism"]
    defaults = {known.description.realism for known in known_models()} - {None}
    for steps in (default / dial.step for default in {*defaults, dial.value}):
        assert steps == pytest.approx(round(steps))


@needs_gradio
def test_no_request_speaks_to_the_terminal(tmp_path: Path) -> None:
    """Of whatever kind: Gradio would print all of it, in the middle of a traceback."""
    import gradio as gr

    from passionsr_cli.serving.page import page
    from passionsr_cli.serving.sessions import Sessions
    from passionsr_cli.serving.workroom import Workroom

    blocks = page(Workroom(ServeSettings()), Sessions(tmp_path))
    file = {"path": "/etc/\x1b]0;title\x07", "meta": {"_type": "gradio.FileData"}}
    events = [event for event in blocks.fns.values() if event.inputs]
    for event in events:
        for values in ([], [file] * len(event.inputs), [[[]]] * len(event.inputs)):
            with pytest.raises(gr.Error) as refused:
                asyncio.run(blocks.process_api(event, values))
            assert not refused.value.print_exception
            assert "\x1b" not in str(refused.value)


def test_a_client_is_told_so(server: Server, tmp_path: Path) -> None:
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    photo = handle_file("https://192.0.2.1/a.png")
    with pytest.raises(AppError, match=r"192\.0\.2\.1/a\.png: an address, not a file"):
        _client(server, tmp_path / "client").predict(photo, api_name="/upscale")


def test_files_go_when_the_client_goes(server: Server, tmp_path: Path, photograph: Path) -> None:
    from gradio_client import handle_file

    client = _client(server, tmp_path / "client")
    before = set(server.files())
    client.predict(handle_file(str(photograph)), api_name="/upscale")
    # Of the photograph only Gradio's upload, of an earlier test, which it removes after an hour.
    assert [path.name for path in set(server.files()) - before] == ["Käse (1) #2_x4.png"]
    assert {path.stat().st_nlink for path in server.files()} == {1}
    client.close()
    wait_for(lambda: not set(server.files()) - before)


def _annoy(server: Server) -> None:
    """Name a folder as a file, and what there is not, and break an upload off: nothing of it is an
    error of the server."""
    folder = str(Path(_uploaded(server, b"photograph")).parent)
    assert _called(server, _photo(folder))[0] == "error"
    with pytest.raises(urllib.error.HTTPError) as refused:
        _ask(server, "call/v2/upscale", b'{"no such": "\\u001b"}', "application/json")
    assert json.loads(refused.value.read())["detail"].startswith("the request cannot be answered")
    address, _, port = server.url.rstrip("/").removeprefix("http://").rpartition(":")
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n"
    with socket.create_connection((address, int(port))) as connection:
        connection.sendall(f"{head}Content-Length: 9999\r\n\r\n".encode() + PART + b"half")
        wait_for(lambda: [path for path in server.files() if path.name.startswith("tmp")])
    assert "photo.jpg" in _uploaded(server, b"another")


@needs_gradio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_at_the_end(number: signal.Signals, tmp_path: Path) -> None:
    """Nor of servers that were killed, once another begins; no proxy is asked on the way."""
    nobody = "http://127.0.0.1:9"
    if number == signal.SIGINT:
        with serving(tmp_path) as killed:
            killed.process.kill()
            killed.process.wait()
            assert list((tmp_path / "cache").glob(".serve.*"))
    with serving(tmp_path, http_proxy=nobody, HTTP_PROXY=nobody) as server:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(server.url).status == 200
        _annoy(server)
        assert server.end(number) == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
    assert not list((tmp_path / "cache").iterdir())
    assert not list((tmp_path / "work").iterdir())


def test_what_is_old_is_looked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    swept: list[object] = []

    def sleep(seconds: float) -> None:
        if len(swept) == 2:
            raise KeyboardInterrupt

    blocks = SimpleNamespace(local_url="http://127.0.0.1/", close=lambda verbose: None)
    monkeypatch.setenv("PASSIONSR_CACHE", str(tmp_path))
    for name in ("_prepare", "_launch"):
        monkeypatch.setattr(module, name, lambda *given: None)
    monkeypatch.setattr(module, "_page", lambda *given: blocks)
    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.Sessions, "sweep", lambda sessions: swept.append(sessions))
    module.serve()
    assert len(swept) == 2


def test_only_this_machine_is_let_in(server: Server) -> None:
    port = int(server.url.rpartition(":")[2])
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    addresses = [line.split()[1] for line in listening if line.split()[3] == "0A"]
    assert [each for each in addresses if each.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"127.0.0.1", "localhost"}),
        ({"host": "0.0.0.0"}, {"*"}),
        ({"host": "0.0.0.0", "name": ["a.example"]}, {"127.0.0.1", "localhost", "a.example"}),
    ],
)
def test_names_that_are_answered(settings: dict[str, Any], names: set[str]) -> None:
    """All of a network's, until some are named; a container listens on 0.0.0.0."""
    assert set(module._names(ServeSettings(**settings))) - {"0.0.0.0"} == names


@pytest.mark.parametrize(("name", "status"), [("localhost", 200), ("elsewhere.example", 400)])
def test_no_page_of_the_internet_is_let_in(server: Server, name: str, status: int) -> None:
    """A browser sends the name that its page has, wherever that name leads."""
    address, _, port = server.url.rstrip("/").removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(address, int(port))
    connection.request("GET", "/", headers={"Host": f"{name}:{port}"})
    assert connection.getresponse().status == status
    connection.close()
