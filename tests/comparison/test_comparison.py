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
    again = CliRunner().invoke(app, ["upscale", str(folder), "--skip-existing"])
    assert "contact-sheet" not in again.output


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
