"""`passionsr upscale` on real photographs with the embedded model."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from passionsr_cli.cli.app import app
from passionsr_cli.imaging import samples
from passionsr_cli.pixels.arrays import rounded_levels


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def _photograph(path: Path, mode: str = "RGB", side: int = 24) -> Path:
    pixels = rounded_levels(samples.low_resolution("sample:coffee")[:, :side, : side + 8])
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    if mode == "RGBA":
        image.putalpha(image.convert("L"))
    image.convert(mode).save(path)
    return path


def test_nobody_is_called(
    tiny_folder: Path, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while a model is converted and compiled for the first time nor while it runs."""
    called: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *what, **_: called.append(what))
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: called.append(address))
    photo = _photograph(working_folder / "photo.png")
    done = _run("upscale", photo, "--model", tiny_folder, "--backend", "openvino")
    assert done.exit_code == 0, done.output
    assert called == []


def test_a_sample_is_upscaled_and_looks_like_the_photograph(working_folder: Path) -> None:
    done = _run("upscale", "sample:rocket")
    assert done.exit_code == 0, done.output
    large = np.array(Image.open(working_folder / "rocket_x4.png")) / 255
    original = samples.high_resolution("sample:rocket").transpose(1, 2, 0)
    assert large.shape == original.shape
    assert -10 * np.log10(((large - original) ** 2).mean()) > 25


def test_json_is_one_object_and_nothing_else(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passionsr_cli.system.cpu.has_integer_products", lambda: True)
    photograph = _photograph(working_folder / "a.png")
    done = _run("upscale", "missing.png", photograph, "--json", "--precision", "fp32")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert set(found) == {
        "images",
        "skipped",
        "failed",
        "model",
        "checkpoint",
        "realism",
        "backend",
        "device",
        "precision",
        "integer",
        "layers",
        "peak_memory_bytes",
    }
    (image,) = found["images"]
    assert image["input"] == str(photograph)
    assert image["output"] == str(working_folder / "a_x4.png")
    assert (image["input_size"], image["output_size"]) == ([32, 24], [128, 96])
    assert image["tiles"] == 1
    assert image["seconds"] > 0
    assert found["failed"] == [{"input": "missing.png", "error": "missing.png: no such file"}]
    assert found["checkpoint"] == "mini-w8a8"
    assert (found["model"], found["backend"]) == ("mini", "openvino")
    assert (found["device"], found["precision"]) == ("cpu", "fp32")
    assert found["layers"]["integer"] + len(found["layers"]["floating"]) > 50
    assert found["peak_memory_bytes"] > 1e6


def test_full_precision_is_there_for_the_asking(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    done = _run("upscale", photograph, "--json", "--precision", "fp32", "--checkpoint", "none")
    found = json.loads(done.stdout)
    assert (found["checkpoint"], found["integer"]) == (None, False)
    # A full-precision model has no layers to run on integers.
    assert found["layers"] == {"integer": 0, "folded": 0, "floating": {}, "attentions": {}}


def test_json_says_where_the_dial_stood(working_folder: Path, dial_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    options = ("--model", dial_folder, "--backend", "torch", "--json")
    for asked, used in (((), 0.25), (("--realism", "0.75"), 0.75)):
        done = _run("upscale", photograph, *options, *asked, "--overwrite")
        assert json.loads(done.stdout)["realism"] == used


def test_a_dial_that_is_not_there_is_one_line(working_folder: Path, tiny_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    done = _run("upscale", photograph, "--model", tiny_folder, "--realism", "0.5")
    assert done.exit_code == 2
    assert "'tiny' has no dial for realism; models that have one:" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("mode", "suffix", "expected"),
    [
        ("L", "png", "L"),
        ("P", "png", "RGB"),
        ("CMYK", "tif", "RGB"),
        ("RGBA", "png", "RGBA"),
        ("LA", "png", "LA"),
        ("1", "png", "L"),
    ],
)
def test_every_kind_of_pixel_works(
    working_folder: Path, mode: str, suffix: str, expected: str
) -> None:
    photograph = _photograph(working_folder / f"a.{suffix}", mode)
    assert _run("upscale", photograph, "--output", "b.png").exit_code == 0
    large = Image.open("b.png")
    assert large.mode == expected
    assert large.size == (128, 96)


def test_alpha_is_upscaled_by_bicubic(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png", "RGBA")
    assert _run("upscale", photograph).exit_code == 0
    alpha = Image.open(photograph).getchannel("A").resize((128, 96), Image.Resampling.BICUBIC)
    found = Image.open("a_x4.png").getchannel("A")
    difference = np.array(found).astype(int) - np.array(alpha).astype(int)
    assert abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("options", "name", "size"),
    [
        (["--scale", "2.5"], "a_x2.5.png", (80, 60)),
        (["--scale", "8"], "a_x8.png", (256, 192)),
        (["--width", "100"], "a_w100.png", (100, 75)),
        (["--width", "99", "--height", "77", "--fit", "fill"], "a_99x77.png", (99, 77)),
    ],
)
def test_any_size_can_be_asked_for(
    working_folder: Path, options: list[str], name: str, size: tuple[int, int]
) -> None:
    photograph = _photograph(working_folder / "a.png")
    assert _run("upscale", photograph, *options).exit_code == 0
    assert _run("upscale", photograph, "-o", "whole.png").exit_code == 0
    found, whole = Image.open(name), Image.open("whole.png")
    assert found.size == size
    expected = np.array(whole.resize(size, Image.Resampling.LANCZOS)).astype(int)
    assert abs(np.array(found) - expected).max() <= 2


def test_a_sixteen_bit_gradient_keeps_its_levels(working_folder: Path) -> None:
    """A slow ramp, on which 8 bits would show bands, comes out as smooth as it went in."""
    import imagecodecs

    levels = np.linspace(8000, 57000, 200 * 40).reshape(40, 200).round()
    Path("a.png").write_bytes(imagecodecs.png_encode(np.dstack([levels] * 3).astype(np.uint16)))
    assert _run("upscale", "a.png", "-o", "b.png", "--strip-metadata").exit_code == 0
    found = imagecodecs.png_decode(Path("b.png").read_bytes())
    assert found.dtype == np.uint16
    assert found.shape == (160, 800, 3)
    for channel in range(3):
        assert len(np.unique(found[..., channel])) >= 4000


def test_metadata_and_depth_go_where_they_are_sent(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    Image.open(photograph).save("b.jpg", exif=exif, icc_profile=b"profile", xmp=b"<x/>")
    assert _run("upscale", "b.jpg", "-o", "c.tif", "--depth", "16").exit_code == 0
    with Image.open("c.tif") as image:
        assert image.size == (96, 128)
        assert image.tag_v2[258] == (16, 16, 16)
        assert image.info["icc_profile"] == b"profile"
        assert image.getexif()[0x010F] == "maker"
        assert image.getexif().get(0x0112, 1) == 1
    assert _run("upscale", "b.jpg", "-o", "d.jpg", "--strip-metadata").exit_code == 0
    with Image.open("d.jpg") as image:
        assert not image.getexif()
        assert "icc_profile" not in image.info


def test_the_same_command_writes_the_same_bytes(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    for name in ("one.png", "two.png"):
        assert _run("upscale", photograph, "-o", name).exit_code == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()


def test_nothing_is_overwritten_unasked(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    Path("a_x4.png").write_text("precious")
    done = _run("upscale", photograph)
    assert done.exit_code == 1
    assert "exists already; use --overwrite" in done.output
    assert Path("a_x4.png").read_text() == "precious"
    assert _run("upscale", photograph, "--overwrite").exit_code == 0
    assert Image.open("a_x4.png").size == (128, 96)


def test_the_same_command_again_has_nothing_to_do(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    assert _run("upscale", photograph, "-o", "b.png").exit_code == 0
    again = _run("upscale", photograph, "-o", "b.png")
    assert (again.exit_code, again.output) == (0, "b.png is there already\n")
    other = _run("upscale", photograph, "-o", "b.png", "--realism", "1")
    assert other.exit_code == 1
    assert "use --overwrite, --skip-existing or another --output" in other.output


def test_in_a_folder_the_others_go_on(working_folder: Path) -> None:
    folder = working_folder / "in"
    folder.mkdir()
    _photograph(folder / "a.png")
    _photograph(folder / "small.png").write_bytes(b"not an image")
    whole = _photograph(folder / "truncated.jpg", side=80)
    whole.write_bytes(whole.read_bytes()[:900])
    _photograph(folder / "z.webp")
    done = _run("upscale", folder, "--output", "out", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [Path(image["input"]).name for image in found["images"]] == ["a.png", "z.webp"]
    errors = {Path(item["input"]).name: item["error"] for item in found["failed"]}
    assert "not an image file" in errors["small.png"]
    assert "damaged" in errors["truncated.jpg"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a_x4.png", "z_x4.png"]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["missing.png"], "missing.png: no such file", 1),
        (["."], "no images in this folder", 1),
        (["sample:nobody"], "unknown sample; known are", 1),
        (
            ["sample:rocket", "--model", "nope"],
            "unknown model 'nope', and no folder",
            1,
        ),
        (["sample:rocket", "--model", "osediff"], "not on this machine", 1),
        (["sample:rocket", "--device", "cuda:7"], "this machine has", 1),
        (["sample:rocket", "--device", "abacus"], "unknown device 'abacus'", 2),
        (["sample:rocket", "--precision", "int3"], "--precision: found 'int3', expected 'auto'", 2),
        (["sample:rocket", "--tile", "-3"], "tile: '-3' is no size; write auto", 2),
        (["sample:rocket", "--config", "nope"], "neither a file nor a preset", 2),
        (["sample:rocket", "--scale", "9"], "--scale: found '9', expected less", 2),
        (["sample:rocket", "--realism", "1.5"], "--realism: found '1.5', expected less", 2),
        (["sample:rocket", "--scale", "2", "--width", "9"], "give one of them", 2),
        (["sample:rocket", "--width", "9"], "1 to 8 times as large", 1),
        (["sample:rocket", "--fit", "cover"], "needs width and height", 2),
        (["sample:rocket", "--depth", "16", "-o", "a.jpg"], "holds 8 bits per channel", 1),
        (["sample:rocket", "-o", "a.xyz"], "cannot write '.xyz' files", 1),
        (["sample:rocket", "--name", "{nonsense}"], "it needs {stem} and takes", 2),
        (
            ["sample:rocket", "--engine", "steam"],
            "--engine: found 'steam', expected 'local'",
            2,
        ),
        ([], "missing argument", 2),
        (["sample:rocket", "--nonsense"], "no option --nonsense", 2),
    ],
)
def test_every_mistake_gets_one_clear_line(arguments: list[str], message: str, code: int) -> None:
    done = _run("upscale", *arguments)
    assert done.exit_code == code
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert list(Path().iterdir()) == []


def test_an_output_folder_that_cannot_be_written_is_explained(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    Path("blocked").write_text("a file where a folder is needed")
    done = _run("upscale", photograph, "-o", "blocked/b.png")
    assert done.exit_code == 1
    assert "cannot be written" in done.output


def test_a_configuration_file_sets_options(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png", side=40)
    Path("mine.yaml").write_text("tile: 64\noverlap: 16\nprecision: fp32\noutput: there\n")
    done = _run("upscale", photograph, "--config", "mine.yaml", "--json")
    found = json.loads(done.stdout)
    assert found["precision"] == "fp32"
    assert found["images"][0]["tiles"] > 1
    assert Path("there/a_x4.png").exists()


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "passionsr_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Processes started in the background may ignore Ctrl-C; a terminal's do not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_ctrl_c_leaves_no_half_file_and_no_traceback(working_folder: Path) -> None:
    for index in range(40):
        _photograph(working_folder / f"{index:02d}.png", side=80)
    process = _start("upscale", ".", "--output", "out")
    deadline = time.monotonic() + 120
    while not list(working_folder.glob("out/*_x4.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    # The journal stays, so that the same command can go on.
    for path in Path("out").glob("[!.]*"):
        assert path.name.endswith("_x4.png")
        Image.open(path).load()


def test_third_parties_are_silent(working_folder: Path) -> None:
    process = _start("upscale", str(_photograph(working_folder / "a.png")))
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(printed.splitlines()) == 1
    assert errors.strip() == ""


def test_debug_shows_the_traceback_wherever_it_stands(working_folder: Path) -> None:
    process = _start("upscale", "sample:rocket", "--device", "abacus", "--debug")
    _, errors = process.communicate(timeout=120)
    assert "Traceback" in errors
    assert "unknown device 'abacus'" in errors


def test_names_between_colons_are_not_emoji(working_folder: Path) -> None:
    done = _run("upscale", "sample:coffee:")
    assert "sample:coffee:: unknown sample" in " ".join(done.output.split())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_work(working_folder: Path) -> None:
    photograph = _photograph(working_folder / "a.png")
    named = photograph.rename(working_folder / os.fsdecode(b"caf\xe9.png"))
    gone = named.with_name(os.fsdecode(b"caf\xe9s.png"))
    process = _start("upscale", str(gone), str(named), "-o", "out")
    printed, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert re.search(r"^1 upscaled, 1 failed, \d+ s$", printed, re.MULTILINE)
    assert os.listdir(b"out") == [b"caf\xe9_x4.png"]


def test_a_photograph_stays_a_jpeg_of_the_quality_asked_for(
    working_folder: Path, tiny_folder: Path
) -> None:
    photograph = _photograph(working_folder / "a.jpg", side=64)
    model = ("--model", tiny_folder, "--backend", "torch", "--format", "same")
    sizes = []
    for quality in ((), ("--quality", 50), ("--quality", 100)):
        done = _run("upscale", photograph, *model, *quality, "--overwrite")
        assert done.exit_code == 0, done.output
        result = working_folder / "a_x4.jpg"
        assert Image.open(result).format == "JPEG"
        sizes.append(result.stat().st_size)
    assert sizes[1] < sizes[0] < sizes[2]
    assert not list(working_folder.glob("*.png"))
