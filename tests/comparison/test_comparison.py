"""Comparisons beside results: what the page and the sheet hold."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from passionsr_cli.cli.app import app
from passionsr_cli.comparison.versions import Compared, Version, common_folder, compare
from passionsr_cli.comparison.writing import TITLE_PX, write_sheet
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.upscaling.images import Done, Skipped


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize((40, 32), Image.Resampling.BICUBIC).save(tmp_path / "a <b>.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(model: Path, *options: object) -> Result:
    given = ["upscale", "a <b>.png", "--model", model, "--backend", "torch", *options]
    return CliRunner().invoke(app, [str(item) for item in given])


def _pictures(page: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    pictures: list[dict[str, object]] = json.loads(found[1])
    return pictures


def _pixels(url: str) -> np.ndarray:
    head, _, content = url.partition(",")
    assert head == "data:image/webp;base64"
    return np.array(Image.open(BytesIO(base64.b64decode(content))))


def test_the_page_holds_each_version_pixel_by_pixel(folder: Path, dial_folder: Path) -> None:
    done = _run(dial_folder, "--compare", "--beside", "1", "--precision", "fp32")
    assert done.exit_code == 0, done.output
    assert "compare in a browser: a <b>_x4_compare.html" in done.stderr
    page = (folder / "a <b>_x4_compare.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=|https?://|@import", page)
    assert "<b>" not in page
    (picture,) = _pictures(page)
    assert (picture["name"], picture["width"], picture["height"]) == ("a <b>.png", 160, 128)
    versions = {each["name"]: _pixels(each["url"]) for each in picture["versions"]}  # type: ignore[attr-defined]
    assert list(versions) == ["input, bicubic", "result", "realism 1"]
    assert np.array_equal(versions["result"], np.array(Image.open("a <b>_x4.png")))
    other = _run(dial_folder, "--realism", "1", "-o", "other.png", "--precision", "fp32")
    assert other.exit_code == 0
    assert np.array_equal(versions["realism 1"], np.array(Image.open("other.png")))
    assert not np.array_equal(versions["realism 1"], versions["result"])
    # A result that is there already is compared, too.
    Path("a <b>_x4_compare.html").unlink()
    again = _run(dial_folder, "--compare", "--beside", "1", "--precision", "fp32")
    assert again.exit_code == 0, again.output
    assert "there already" in again.output
    assert (folder / "a <b>_x4_compare.html").read_text(encoding="utf-8") == page


def test_the_sheet_holds_all_versions_and_is_no_input(folder: Path, least_folder: Path) -> None:
    done = _run(least_folder, "--contact-sheet")
    assert done.exit_code == 0, done.output
    sheet = np.array(Image.open("a <b>_x4_contact-sheet.png"))
    result = np.array(Image.open("a <b>_x4.png"))
    width = result.shape[1]
    places = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (8, 8))
    assert (places == result[:8, :8, 0]).all((-1, -2)).any()
    assert sheet.shape[1] > 2 * width
    # One that is there already is replaced, what a person called so is not.
    again = _run(least_folder, "--contact-sheet", "--compare")
    assert again.exit_code == 0, again.output
    Path("a <b>_x4_contact-sheet.png").write_bytes(Path("a <b>.png").read_bytes())
    Path("a <b>_x4_compare.html").write_text("notes")
    third = _run(least_folder, "--contact-sheet", "--compare", "--overwrite")
    assert "contact sheet: a <b>_x4_contact-sheet-2.png" in third.stderr
    assert "a <b>_x4_compare-2.html" in third.stderr
    assert Path("a <b>_x4_compare.html").read_text() == "notes"
    assert not list(folder.glob("*-3.*"))
    # A photograph that a person called so is an image as others are.
    Path("a <b>_x4_contact-sheet.png").unlink()
    last = CliRunner().invoke(app, ["upscale", str(folder), "--skip-existing"])
    assert "contact-sheet" not in last.output


def test_names_on_the_sheet_stay_in_their_columns(tmp_path: Path) -> None:
    names = ("input", "a checkpoint of a very long name " * 3, "realism 0")
    grey = np.full((3, 24, 32), 90, np.uint8)
    small = Compared("照片 Фото.jpg", tuple(Version(name, grey) for name in names))
    write_sheet(tmp_path / "sheet.png", [small, small])
    sheet = np.array(Image.open(tmp_path / "sheet.png").convert("L"))
    inked = sheet < 255
    lefts = np.flatnonzero((sheet == 90).sum(0) >= 48)[::32]
    assert len(lefts) == 3
    # Between the columns all is white, but for the names of the images.
    assert lefts[1] - lefts[0] > 160
    for left in lefts[1:]:
        rows = np.flatnonzero(inked[:, left - 8 : left].any(1))
        assert len(rows) <= 2 * TITLE_PX
    assert not inked[:, -8:].any()


def test_versions_are_as_large_as_a_result_that_was_there(folder: Path, dial_folder: Path) -> None:
    size = ("--precision", "fp32", "--scale", "2")
    for realism, name in (("0", "a <b>_x4.png"), ("1", "other.png")):
        made = _run(dial_folder, "--realism", realism, "-o", name, *size)
        assert made.exit_code == 0, made.output
    beside = ("--compare", "--beside", "1", "--precision", "fp32")
    done = _run(dial_folder, "--skip-existing", *beside)
    assert done.exit_code == 0, done.output
    (picture,) = _pictures((folder / "a <b>_x4_compare.html").read_text(encoding="utf-8"))
    assert (picture["width"], picture["height"]) == (80, 64)
    versions = {each["name"]: _pixels(each["url"]) for each in picture["versions"]}  # type: ignore[attr-defined]
    assert {pixels.shape for pixels in versions.values()} == {(64, 80, 3)}
    assert np.array_equal(versions["realism 1"], np.array(Image.open("other.png")))


@pytest.mark.parametrize("output", [None, "results"])
def test_of_folders_in_a_folder_there_is_one_page_that_tells_images_apart(
    output: str | None, folder: Path, least_folder: Path
) -> None:
    for below in ("spring", "summer"):
        (folder / "in" / below).mkdir(parents=True)
        (folder / "in" / below / "a.png").write_bytes((folder / "a <b>.png").read_bytes())
    options = [] if output is None else ["-o", output]
    given = ["upscale", "in", "--compare", "--model", str(least_folder), "--backend", "torch"]
    done = CliRunner().invoke(app, [*given, *options])
    assert done.exit_code == 0, done.output
    place = Path(output or "in", "compare.html")
    assert f"compare in a browser: {place}\n" in done.stderr
    pictures = _pictures(place.read_text(encoding="utf-8"))
    assert [Path(str(each["name"])).as_posix() for each in pictures] == [
        "spring/a.png",
        "summer/a.png",
    ]


def test_images_without_a_common_folder_have_whole_names(folder: Path) -> None:
    assert common_folder(["a/b.png", "a/c/d.png"]) == Path("a")
    assert common_folder(["b.png", "c/d.png"]) == Path()
    named = ["a <b>.png", str(folder / "a <b>.png")]
    results = [Skipped(name, folder / "a <b>.png") for name in named]
    assert [each.name for each in compare(results, UpscaleSettings())] == named
    assert [each.name for each in compare(results[1:], UpscaleSettings())] == ["a <b>.png"]


def test_results_above_the_largest_input_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limits lowered, to save what images of that size take."""
    monkeypatch.setattr(read_picture, "__defaults__", (64 * 64,))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    small = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    Image.fromarray(small).save(tmp_path / "a.png")
    # Flat, but for one square of noise, which is what is shown.
    large = np.full((32 * 48, 48 * 48, 3), 90, np.uint8)
    large[200:1224, 1024:2048] = np.random.default_rng(1).integers(0, 256, (1024, 1024, 3))
    Image.fromarray(large).save(tmp_path / "a_x4.png")
    done = Done(str(tmp_path / "a.png"), tmp_path / "a_x4.png", (48, 32), (2304, 1536), 1.0, 1)
    (compared,) = compare([done], UpscaleSettings())
    shown = compared.versions[1].rgb.transpose(1, 2, 0)
    assert np.array_equal(shown, large[192:1216, 1024:2048])
    red = Image.fromarray(small[..., 0].astype(np.float32))
    whole = np.asarray(red.resize((2304, 1536), Image.Resampling.BICUBIC)).clip(0, 255)
    assert np.abs(compared.versions[0].rgb[0] - whole[192:1216, 1024:2048]).max() <= 1
    assert Image.MAX_IMAGE_PIXELS == 64 * 64


@pytest.mark.parametrize("options", [["--watch", "--compare"], ["-o", "-", "--contact-sheet"]])
def test_comparisons_that_cannot_be_are_refused(folder: Path, options: list[str]) -> None:
    done = CliRunner().invoke(app, ["upscale", str(folder), *options])
    assert done.exit_code == 2
    assert "they do not go with --watch or '-'" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ("minni", "there is no checkpoint or model 'minni'; did you mean 'mini'?"),
        ("osediff", "the weights of 'osediff' are not on this machine"),
        ("0.5", "has no dial for realism"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(
    beside: str, message: str, folder: Path, least_folder: Path
) -> None:
    done = _run(least_folder, "--compare", "--beside", beside)
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert not (folder / "a <b>_x4.png").exists()
