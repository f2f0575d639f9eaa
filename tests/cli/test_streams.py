"""Images through pipes, as `cat a.jpg | passionsr upscale - -o - > b.png` does it."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from passionsr_cli.cli.app import app
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ImageError, OutputError
from passionsr_cli.terminal.streams import streamed


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    Image.radial_gradient("L").convert("RGB").resize((40, 24)).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


def _run(
    folder: Path, *arguments: object, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "passionsr_cli", "upscale", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, timeout=300)


def test_a_pipe_gives_what_a_file_gives(photograph: Path) -> None:
    folder = photograph.parent
    assert _run(folder, photograph).returncode == 0
    piped = _run(folder, "-", "-o", "-", stdin=photograph.read_bytes())
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout == (folder / "a_x4.png").read_bytes()


def test_a_pipe_keeps_the_format_of_its_input(photograph: Path) -> None:
    piped = _run(photograph.parent, "-", "--format", "same", stdin=photograph.read_bytes())
    assert piped.stdout.startswith(b"\xff\xd8\xff")
    assert sorted(path.name for path in photograph.parent.glob("*.*")) == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-"], 1, "standard input is empty; expected an image"),
        (["a.jpg", "b.jpg", "-o", "-"], 2, "a pipe holds one image; give one input"),
        (["a.jpg", "-o", "-", "--json"], 2, "--json and the image both go to standard output"),
    ],
)
def test_what_no_pipe_can_be(
    arguments: list[str], code: int, message: str, photograph: Path
) -> None:
    done = _run(photograph.parent, *arguments)
    assert (done.returncode, done.stdout) == (code, b"") or "--json" in arguments
    assert message in done.stderr.decode()


def test_no_picture_is_no_output(photograph: Path) -> None:
    done = _run(photograph.parent, "-", stdin=b"no picture")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == "error: standard input: not an image file that can be read\n"


def test_a_pipe_is_told_of_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least_folder: Path
) -> None:
    # Which JSON writes otherwise.
    (tmp_path / "für").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "für"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    Image.new("RGBA", (12, 8)).save("a.png")

    def run(*arguments: str) -> Result:
        options = ("--model", str(least_folder), "--backend", "torch")
        content = Path("a.png").read_bytes()
        return CliRunner().invoke(app, ["upscale", "-", *options, *arguments], input=content)

    done = run("-o", "there", "--json")
    (image,) = json.loads(done.stdout)["images"]
    place = str(Path("there") / "stdin_x4.png")
    assert (image["input"], image["output"]) == ("standard input", place)
    assert Path(place).exists()
    told = run("--format", "jpg").stderr
    assert "error: standard input: standard output: .jpg holds no transparency" in told


@pytest.mark.parametrize(
    ("stream", "error", "message"),
    [("stdin", ImageError, "input is closed"), ("__stdout__", OutputError, "output is closed")],
)
def test_a_stream_that_is_closed_is_said_before_any_work(
    stream: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a photograph")))
    monkeypatch.setattr(sys, stream, None)
    with (
        pytest.raises(error, match=message),
        streamed(["-"], UpscaleSettings(), as_json=False),
    ):
        pass


def test_a_full_disk_behind_a_pipe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fails)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a photograph")))
    settings = UpscaleSettings(output=Path("a.png"))
    told = pytest.raises(OutputError, match=r"No space left on device.*set TMPDIR")
    with told, streamed(["-"], settings, as_json=False):
        pass
