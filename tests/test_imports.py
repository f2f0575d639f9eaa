"""What a person waits for must not import what only learning needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from passionsr_cli import Done, UpscaleSettings, upscale

_PROGRAM = """
import sys
from passionsr_cli.cli.app import main

heavy = {"torch", "diffusers", "accelerate", "transformers", "pyiqa"}
try:
    main()
finally:
    print("imported:", *sorted(heavy & set(sys.modules)))
"""
COMMANDS = (
    *("upscale", "calibrate", "evaluate", "export", "bench", "reproduce", "train", "models"),
    *("checkpoints", "sweep-timestep", "serve"),
)


def _imported(*arguments: object) -> str:
    command = [sys.executable, "-c", _PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.rpartition("imported:")[2].strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    assert _imported(command, "--help") == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("models",),
        ("checkpoints",),
        ("checkpoints", "show", "nobody"),
        ("upscale", "sample:coffee", "--model", "nobody"),
        ("upscale", "sample:nobody"),
        ("upscale", "sample:coffee", "--checkpoint", "nobody"),
        ("upscale", "sample:coffee", "--tile", "small"),
    ],
)
def test_listing_and_refusing(arguments: tuple[str, ...]) -> None:
    assert _imported(*arguments) == ""


@pytest.mark.parametrize("module", ["methods", "reproduction.definitions", "checkpoints.manifest"])
def test_what_only_describes(module: str) -> None:
    program = f"import sys, passionsr_cli.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_reading_what_most_people_have(tmp_path: Path, name: str) -> None:
    """Not with all of Pillow's plugins, which take longer to load than it takes to decode."""
    photo = tmp_path / name
    Image.new("RGB", (16, 16), "teal").save(photo)
    program = (
        "import sys; from pathlib import Path; from passionsr_cli.imaging.decoding import decode; "
        "decode(Path(sys.argv[1])); print('PIL.AvifImagePlugin' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(photo)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_upscaling_from_the_cache(
    calibrate: Callable[..., str], tiny_folder: Path, tmp_path: Path
) -> None:
    checkpoint = calibrate("w8a8")
    # Without a size that follows from what memory is free at the moment.
    settings = UpscaleSettings(
        checkpoint=checkpoint, output=tmp_path / "a.png", device="cpu", tile=128
    )
    (done,) = upscale(["sample:coffee"], settings)
    assert isinstance(done, Done)
    options = ("--checkpoint", checkpoint, "--output", tmp_path / "b.png", "--tile", "128")
    assert _imported("upscale", "sample:coffee", *options) == ""
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# What tells of sockets, also in processes that are forked from this one.
_WATCHED = """
import os, sys

def watch(event, values):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.sendto"):
        os.write(2, f"called: {event} {values} ".encode())

sys.addaudithook(watch)
"""


@pytest.mark.parametrize(
    "program",
    [
        "import passionsr_cli, openvino",
        "import passionsr_cli.system.child, openvino.tools.ovc",
        "import sys; from passionsr_cli.cli.app import main; sys.argv[1:] = {upscale}; main()",
    ],
)
def test_openvino_calls_nobody_and_leaves_nothing(
    tmp_path: Path, tiny_folder: Path, program: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    photo = tmp_path / "photo.png"
    Image.new("RGB", (16, 16), "teal").save(photo)
    upscale = ["upscale", str(photo), "--model", str(tiny_folder), "--backend", "openvino"]
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED + program.format(upscale=upscale)],
        env={**os.environ, "HOME": str(home), "PASSIONSR_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "called:" not in done.stderr
    # Where it has no network, or none answers, it still counts what it would have told.
    assert list(home.iterdir()) == []
