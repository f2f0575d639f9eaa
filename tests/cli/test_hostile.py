"""A folder's worth of files that nobody should have to deal with."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from passionsr_cli.cli.app import app
from passionsr_cli.system.memory import process_peak_bytes

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


CUT = ("cut.png", "cut_jpg.jpg", "cut_webp.webp", "cut_avif.avif", "cut_tif.tif")


def _png_bomb(side: int) -> bytes:
    """A few bytes that claim a square of that many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(10**6), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content)


def _fill(folder: Path) -> dict[str, str]:
    """Make the corpus; for each file that cannot be upscaled, what its error says."""
    IMAGE.save(folder / "good.png")
    for name in CUT[:-1]:
        IMAGE.save(folder / name)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    tifffile.imwrite(folder / "cut_tif.tif", PIXELS.astype(np.uint16), photometric="rgb")
    (folder / "cut_tif.tif").write_bytes((folder / "cut_tif.tif").read_bytes()[:900])
    (folder / "nothing.png").touch()
    (folder / "bomb.png").write_bytes(_png_bomb(40_000))
    (folder / "small_bomb.png").write_bytes(_png_bomb(9_000))
    claimed = {"shape": (60_000, 60_000, 3), "dtype": "u2", "photometric": "rgb"}
    tifffile.imwrite(folder / "tiff_bomb.tif", **claimed, bigtiff=True)
    os.truncate(folder / "tiff_bomb.tif", 5000)
    (folder / "text.jpg").write_text("a text")
    (folder / "program.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    IMAGE.save(folder / "png_in_truth.jpg", "png")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (1, 10_000)).save(folder / "line.png")
    IMAGE.convert("CMYK").save(folder / "odd_profile.jpg", icc_profile=b"odd")
    IMAGE.save(folder / "broken_profile.png", icc_profile=b"\xff" * 300)
    IMAGE.save(folder / "broken_exif.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    for name in ("anim_gif.gif", "apng.png", "anim_webp.webp"):
        frames = [Image.fromarray(255 - PIXELS)]
        IMAGE.save(folder / name, save_all=True, append_images=frames)
    IMAGE.save(folder / "pages.tif", save_all=True, append_images=[IMAGE])
    tifffile.imwrite(folder / "float.tif", PIXELS.astype(np.float32), photometric="rgb")
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(b"nothing")
    damaged = "damaged"
    return {
        **dict.fromkeys(CUT, damaged),
        "cut_avif.avif": "not an image file",
        "nothing.png": "not an image file",
        "bomb.png": "too large",
        "small_bomb.png": "small_bomb.png",  # too large or damaged, as memory allows
        "tiff_bomb.tif": "too large",
        "text.jpg": "not an image file",
        "program.png": "not an image file",
        "anim_gif.gif": "an animation of 2 frames",
        "apng.png": "an animation of 2 frames",
        "anim_webp.webp": "an animation of 2 frames",
        "pages.tif": "2 pages",
        "float.tif": "float32 pixels have no defined white",
        "loop.png": "no such file",
        "dangling.png": "no such file",
        "pipe.png": "not a regular file",
        os.fsdecode(b"caf\xe9.png"): "not an image file",
    }


GOOD = ("good.png", "dot.png", "line.png", "png_in_truth.jpg", "odd_profile.jpg")
GOOD += ("broken_profile.png", "broken_exif.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such files")
def test_every_hostile_file_is_named_and_the_others_go_on(
    tmp_path: Path, tiny_folder: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    wanted = _fill(folder)
    inputs = [str(folder / name) for name in (*wanted, *GOOD)]
    options = ["-o", str(tmp_path / "out"), "--json", "--model", str(tiny_folder)]
    before, started = process_peak_bytes(), time.perf_counter()
    done = CliRunner().invoke(app, ["upscale", *inputs, *options, "--backend", "torch"])
    assert time.perf_counter() - started < 30
    assert process_peak_bytes() - before < 800e6
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    found = json.loads(done.stdout)
    assert {Path(image["input"]).name for image in found["images"]} == set(GOOD)
    errors = {Path(item["input"]).name: item["error"] for item in found["failed"]}
    assert set(errors) == set(wanted)
    for name, message in wanted.items():
        assert message in errors[name], errors[name]
        assert name in errors[name]
        assert len(errors[name].splitlines()) == 1
    assert len(list((tmp_path / "out").iterdir())) == len(GOOD)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "secret.png")
    (tmp_path / "secret.png").chmod(0)
    done = CliRunner().invoke(app, ["upscale", str(tmp_path / "secret.png")])
    assert "secret.png: no permission to read it" in " ".join(done.output.split())
