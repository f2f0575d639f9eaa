"""Downloads from servers on this machine: an address, and the hub as its client talks to it."""

from __future__ import annotations

import hashlib
import http.client
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import foreign
import pytest
import torch
from filelock import FileLock
from huggingface_hub import constants

from passionsr_cli import registry
from passionsr_cli.description import DownloadSource, ModelDescription
from passionsr_cli.errors import DownloadError, ModelError
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import Notes
from passionsr_cli.published import pulling
from passionsr_cli.published.downloads import Downloader
from passionsr_cli.store import Store
from passionsr_cli.system.downloads import download

COMMIT = "c" * 40


class Server(ThreadingHTTPServer):
    """Serves `files` by path; `cut` closes a connection after so many bytes, once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.cut: dict[str, int] = {}
        self.ranges: list[str | None] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body = self.server.files.get(path)
        if body is None:
            self.send_response(404)
            if "/resolve/" in path:
                known = any(path.split("/resolve/")[0] in name for name in self.server.files)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        wanted = self.headers.get("Range")
        if self.command == "GET":
            self.server.ranges.append(wanted)
        if wanted and (found := re.fullmatch(r"bytes=(\d+)-", wanted)):
            start = int(found[1])
        if start >= len(body) and start:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", self.server.types.get(path, "application/octet-stream"))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.command == "GET":
            stop = self.server.cut.pop(path, len(body))
            self.wfile.write(body[start:stop])
            self.close_connection = stop < len(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", running.address)
    template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield running
    running.shutdown()
    running.server_close()


def _described(description: ModelDescription, *sources: DownloadSource) -> ModelDescription:
    return description.model_copy(update={"sources": sources})


def _url(server: Server, **known: object) -> DownloadSource:
    values = {"kind": "url", "location": f"{server.address}/a.pkl", "part": "adapters", **known}
    return DownloadSource.model_validate(values)


def test_an_interrupted_download_goes_on_where_it_stopped(
    server: Server, tiny_description: ModelDescription, tmp_path: Path
) -> None:
    body = bytes(range(256)) * 5000
    server.files["/a.pkl"], server.cut["/a.pkl"] = body, 900_000
    digest = hashlib.sha256(body).hexdigest()
    described = _described(tiny_description, _url(server, sha256=digest, bytes=len(body)))
    fetch = Downloader(tmp_path / "downloads")
    with pytest.raises(ModelError, match=r"ended after 900,000 of 1,280,000 bytes.*goes on from"):
        fetch.file("adapters", described, None)
    assert not list((tmp_path / "downloads").glob("*a.pkl"))
    path, place = fetch.file("adapters", described, None)
    assert path.read_bytes() == body
    assert place == f"{server.address}/a.pkl"
    assert server.ranges == ["bytes=0-", "bytes=900000-"]
    # It is there now and not asked for again.
    assert fetch.file("adapters", described, None)[0] == path
    assert len(server.ranges) == 2


def test_a_download_goes_on_with_no_file_of_another_address(
    server: Server, tiny_description: ModelDescription, tmp_path: Path
) -> None:
    server.files["/a.pkl"], server.cut["/a.pkl"] = b"a" * 5000, 3000
    server.files["/other/a.pkl"] = b"b" * 4000
    fetch = Downloader(tmp_path / "downloads")
    with pytest.raises(ModelError, match="ended after 3,000 of 5,000 bytes"):
        fetch.file("adapters", tiny_description, f"{server.address}/a.pkl")
    other, _ = fetch.file("adapters", tiny_description, f"{server.address}/other/a.pkl")
    assert other.read_bytes() == b"b" * 4000
    assert (
        fetch.file("adapters", tiny_description, f"{server.address}/a.pkl")[0].read_bytes()
        == b"a" * 5000
    )


def test_what_is_not_the_file_is_refused_and_removed(
    server: Server, tiny_description: ModelDescription, tmp_path: Path
) -> None:
    server.files["/a.pkl"] = b"something else"
    fetch = Downloader(tmp_path / "downloads")

    def refuse(match: str, **known: object) -> None:
        with pytest.raises(ModelError, match=match):
            fetch.file("adapters", _described(tiny_description, _url(server, **known)), None)
        assert not list((tmp_path / "downloads").glob("*"))

    expected = hashlib.sha256(b"the file").hexdigest()
    refuse(rf"has SHA-256 \w+…, expected {expected[:12]}…; it was removed", sha256=expected)
    refuse("has 14 bytes, expected 8; what came was removed", bytes=8)
    server.types["/a.pkl"] = "text/html"
    page = DownloadSource(kind="page", location="https://x.org/a", note="a.pkl", part="adapters")
    described = _described(tiny_description, _url(server), page)
    with pytest.raises(
        ModelError,
        match=r"web page, not with a file.*download them from https://x\.org/a \(a\.pkl\) and give",
    ):
        fetch.file("adapters", described, None)
    del server.files["/a.pkl"]
    refuse("answers 404 Not Found")


def test_offline_nothing_is_asked_for(
    server: Server,
    tiny_description: ModelDescription,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.files["/a.pkl"] = b"x"
    fetch = Downloader(tmp_path / "downloads")
    with pytest.raises(ModelError, match=r"http.*: HF_HUB_OFFLINE is set, so nothing is fetched"):
        fetch.file("adapters", _described(tiny_description, _url(server)), None)
    with pytest.raises(ModelError, match=r"cannot be had \(o/sd: HF_HUB_OFFLINE is set"):
        fetch.base(_described(tiny_description, DownloadSource(kind="hub", location="o/sd")), None)
    assert not server.ranges
    with pytest.raises(ModelError, match="there is no 'nowhere'; give a folder, a file, an addr"):
        fetch.base(tiny_description, "nowhere")


@pytest.fixture
def hub(server: Server, tiny_model: OneStepModel, tmp_path: Path) -> Server:
    """A hub with the tiny model as `o/mirror`, but without `o/gone`."""
    foreign.write_folder(
        tmp_path / "sd", tiny_model.state_dict(), tiny_model.description, old_names=True
    )
    foreign.write_text_folder(
        tmp_path / "sd" / "text_encoder", foreign.openclip_state(8, 3, 11, blocks=2, seed=0)
    )
    for path in (tmp_path / "sd").rglob("*"):
        if path.is_file():
            name = path.relative_to(tmp_path / "sd").as_posix()
            server.files[f"/o/mirror/resolve/main/{name}"] = path.read_bytes()
            server.files[f"/o/mirror/resolve/{COMMIT}/{name}"] = path.read_bytes()
    torch.save(foreign.osediff_pickle(tiny_model, rank=4, seed=1), tmp_path / "a.pkl")
    server.files["/a.pkl"] = (tmp_path / "a.pkl").read_bytes()
    return server


def test_a_model_comes_from_the_first_source_that_has_it(
    hub: Server, tiny_description: ModelDescription, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = [DownloadSource(kind="hub", location=f"o/{name}") for name in ("gone", "mirror")]
    described = _described(tiny_description, *sources, _url(hub))
    monkeypatch.setitem(registry._registered().descriptions, "tiny", described)
    monkeypatch.setitem(registry.registered_recipes(), "tiny", registry.Recipe(like="tiny"))
    heard = Notes()
    entry = pulling.pull_model("tiny", "mine", None, None, None, False, heard)
    assert entry.manifest["pulled_from"]["base"] == "o/mirror"
    assert entry.manifest["description"]["licence"] == "MIT"
    assert "licence: MIT" in heard.texts[0]
    assert any(note.startswith("o/gone: ") for note in heard.texts)
    # From the cache that is shared with other tools, without network.
    asked = len(hub.ranges)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    same = pulling.pull_model("tiny", "mine", None, None, None, False, heard)
    assert heard.texts[-1] == "'mine' is finished already"
    assert (same.folder, len(hub.ranges)) == (entry.folder, asked)
    again = pulling.pull_model("tiny", "again", None, str(tmp_path / "a.pkl"), None, False, heard)
    assert len(hub.ranges) == asked
    assert again.tensors_file == entry.tensors_file
    # A file that is damaged in that cache is noticed.
    blob = max((tmp_path / "hub").rglob("blobs/*"), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match="cannot be had"):
        pulling.pull_model("tiny", "third", None, str(tmp_path / "a.pkl"), None, False, heard)
    assert not blob.exists()
    assert Store("model").names() == ["again", "mine"]


def test_what_cannot_be_pulled(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'mini' cannot be pulled; known are adcsr"):
        pulling.pull_model("mini", "x", None, None, None, False, Notes())
    with pytest.raises(
        ModelError,
        match=r"pisa-sr' cannot be had \(there is no address.*csslc/PiSA-SR \(adapters \(pisa_sr",
    ):
        pulling.pull_model("pisa-sr", "x", None, None, None, False, Notes())


def test_of_several_at_once_one_fetches(server: Server, tmp_path: Path) -> None:
    content, target, notes = b"weights", tmp_path / "weights.bin", Notes()
    digest = hashlib.sha256(content).hexdigest()
    with FileLock(tmp_path / "weights.bin.part.lock"):
        thread = threading.Thread(
            target=download, args=(f"{server.address}/none", target, notes, digest)
        )
        thread.start()
        while not notes.texts:
            time.sleep(0.01)
        assert notes.texts == ["another process fetches weights.bin; waiting for it"]
        target.write_bytes(content)
    thread.join(10)
    assert not thread.is_alive()
    assert [path.name for path in tmp_path.iterdir()] == ["weights.bin"]
    assert server.ranges == []


@pytest.mark.parametrize(
    "error",
    [http.client.IncompleteRead(b"ab", 5), http.client.BadStatusLine("x"), http.client.InvalidURL],
)
def test_a_server_that_speaks_no_http_is_told(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("urllib.request.urlopen", fails)
    with pytest.raises(DownloadError, match=r"cannot be fetched: .+"):
        download("http://127.0.0.1:1/file", tmp_path / "file")
