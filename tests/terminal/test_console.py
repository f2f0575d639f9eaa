from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from passionsr_cli import __main__
from passionsr_cli.cli.app import app
from passionsr_cli.system.sources import PACKAGE
from passionsr_cli.terminal.console import PACKAGES

_STUCK = """
import os, signal, sys, threading, time
from pathlib import Path
from passionsr_cli.system.files import replace_atomically, temporary_folder
from passionsr_cli.system import interruptions
from passionsr_cli.terminal import ending

ending.THREADS_END_WITHIN_SECONDS = float(sys.argv[2])
begun = threading.Event()

def work():
    folder = temporary_folder()
    with replace_atomically(Path(sys.argv[1])) as temporary:
        temporary.write_text("a half")
        begun.set()
        time.sleep(float(sys.argv[3]))

def program(arguments):
    threading.Thread(target=work).start()
    begun.wait()
    if sys.argv[4] == "twice":
        again = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
        again.daemon = True
        again.start()
    print("interrupted", end="")
    raise SystemExit(interruptions.exit_code())

ending.run_to_end(program, [])
"""


@pytest.mark.parametrize(
    ("patience", "takes", "asked", "written"),
    [(0.1, 100, "once", []), (100, 0.1, "once", ["result"]), (100, 100, "twice", [])],
)
def test_ctrl_c_does_not_wait_for_long_for_threads(
    tmp_path: Path,
    patience: float,
    takes: float,
    asked: str,
    written: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    arguments = (str(tmp_path / "result"), str(patience), str(takes), asked)
    command = [sys.executable, "-c", _STUCK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted", "")
    assert [path.name for path in tmp_path.iterdir()] == written


_ENDING = """
import atexit, sys
from passionsr_cli.terminal import console, ending

class Large:
    def __del__(self):
        print("taken down")

console.large = Large()
console.debugging = sys.argv[1] == "debug"

def program():
    atexit.register(print, "at the end")
    raise SystemExit(eval(sys.argv[2]))

ending.run_alone(program)
"""


@pytest.mark.parametrize(("code", "told"), [("None", 0), ("0", 0), ("2", 2)])
def test_libraries_are_not_taken_down_at_the_end_but_to_debug(code: str, told: int) -> None:
    for how, printed in (("", "at the end\n"), ("debug", "at the end\ntaken down\n")):
        command = [sys.executable, "-c", _ENDING, how, code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (told, printed, "")


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("passionsr_cli.terminal.work.plan_work", broken)
    done = CliRunner().invoke(app, ["upscale", "sample:rocket"])
    assert done.exit_code == 1
    assert "unexpected KeyError (see --debug): 'surprise'" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("gradio", "gradio"),
        ("onnxruntime.capi", "onnx onnxruntime onnxscript"),
        ("nncf", "nncf"),
        ("ray", "'ray[data]'"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    module: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    monkeypatch.setattr("passionsr_cli.terminal.work.plan_work", missing)
    done = CliRunner().invoke(app, ["upscale", "sample:rocket"])
    assert done.exit_code == 1
    assert done.output == f"error: this needs {module}: pip install {packages}\n"


def test_what_is_to_be_installed_is_what_the_extras_bring() -> None:
    brought = " ".join(importlib.metadata.requires("passionsr") or ())
    for packages in PACKAGES.values():
        assert all(package.strip("'") in brought for package in packages.split())


def test_nobody_is_sent_from_the_small_installation_to_the_whole_one() -> None:
    """`pip install 'passionsr[...]'` would bring torch along."""
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("README.md"), PACKAGE.parent / "README.md"]
    assert not [path for path in sources if "passionsr[" in path.read_text(encoding="utf-8")]


NUMBER_ALONE = """
import os, pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
os.environ.pop("HOME", None)
from passionsr_cli.cli.app import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="users have names on Windows")
def test_a_user_who_is_a_number_upscales(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "a.png")
    command = [sys.executable, "-c", NUMBER_ALONE, "upscale", "a.png"]
    done = subprocess.run(command, text=True, capture_output=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a_x4.png").exists()


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("passionsr 0.")


def _passionsr(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "passionsr_cli", *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, timeout=120, **options)


def test_a_name_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    """Neither in an error nor in a result nor in a table."""
    name = "a\x1b]0;owned\x07\x1b[2J\nerror: forged.png"
    (tmp_path / name).write_text("no image")
    (tmp_path / "checkpoints" / "x\x1b[2J").mkdir(parents=True)
    (tmp_path / "checkpoints" / "x\x1b[2J" / "manifest.json").write_text("{}")
    runs = [("upscale", tmp_path / name), ("upscale", tmp_path), ("checkpoints",)]
    for arguments in runs:
        done = CliRunner(env={"PASSIONSR_HOME": str(tmp_path)}).invoke(
            app, list(map(str, arguments))
        )
        assert "\x1b" not in done.output
        assert "\x07" not in done.output
        assert "\nerror: forged" not in done.output
        assert "\\x1b" in done.output


@pytest.mark.parametrize("encoding", ["cp1251", "ascii"])
def test_an_encoding_without_the_name_s_letters_ends_no_run(tmp_path: Path, encoding: str) -> None:
    photo = tmp_path / "café 写真.png"
    Image.new("RGB", (8, 8), "teal").save(photo)
    options = {"env": {**os.environ, "PYTHONIOENCODING": encoding}, "encoding": encoding}
    done = _passionsr("upscale", photo, "--output", tmp_path / "out.png", **options)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out.png").size == (32, 32)


def test_a_reader_that_goes_ends_no_run(tmp_path: Path) -> None:
    for number in range(2):
        Image.new("RGB", (8, 8), "teal").save(tmp_path / f"{number}.png")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "passionsr_cli", "upscale", str(tmp_path)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writing)
    assert (done.returncode, "Traceback" in done.stderr, "Broken" in done.stderr) == (
        0,
        False,
        False,
    )
    assert len(list(tmp_path.rglob("*_x4.png"))) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_behind_the_output_ends_no_run(tmp_path: Path, options: list[str]) -> None:
    for name in "ab":
        Image.new("RGB", (8, 8), "teal").save(tmp_path / f"{name}.png")
    command = [sys.executable, "-m", "passionsr_cli", "upscale", str(tmp_path), *options]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "error: what it tells cannot be written (No space left on device)\n"
    assert len(list(tmp_path.rglob("*_x4.png"))) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_a_full_disk_behind_help_is_one_line(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "passionsr_cli", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "error: what it tells cannot be written (No space left on device)\n"


def test_ctrl_c_during_imports_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting:
        def find_spec(self, name: str, *where: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "passionsr_cli.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupting()])
    with pytest.raises(SystemExit) as end:
        __main__.run()
    assert end.value.code == 130


def test_no_streams_at_all_end_no_run(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "a.png")
    command = f"{sys.executable} -m passionsr_cli upscale {tmp_path}/a.png >&- 2>&- <&-"
    assert subprocess.run(["bash", "-c", command], check=False, timeout=120).returncode == 0
    assert (tmp_path / "a_x4.png").exists()
