"""report.html, read as a file and looked at in a browser."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_chromium
from PIL import Image

from passionsr_cli.data.pairs import Pair
from passionsr_cli.evaluation.pictures import most_different
from passionsr_cli.evaluation.plots import COLOURS as DIFFERENT
from passionsr_cli.evaluation.plots import Point, plot
from passionsr_cli.evaluation.report import write_report
from passionsr_cli.evaluation.results import ImageResult, Results, RowResult

COLOURS = {"lr": (60, 60, 60), "hr": (240, 240, 240), "one": (230, 20, 20), "two": (20, 20, 230)}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Two rows, red and blue, on two images, of which `far` is where they differ more."""
    pairs, files = [], {"one": {}, "two": {}}  # type: ignore[var-annotated]
    for name in ("near", "far"):
        paths = {kind: tmp_path / kind / f"{name}.png" for kind in COLOURS}
        for kind, path in paths.items():
            path.parent.mkdir(exist_ok=True)
            side = 24 if kind == "lr" else 96
            Image.new("RGB", (side, side), COLOURS[kind]).save(path)
        pairs.append(Pair(name, str(paths["lr"]), str(paths["hr"]), (name,)))
        for row in files:
            files[row][name] = paths[row]
    rows = [
        RowResult(
            row,
            "images",
            {"psnr": 30.0 + shift},
            {"lpips": "no <weights> here"},
            seconds_per_image=0.5,
            model_bytes=2_000_000,
            images=(
                ImageResult("near", {"psnr": 31.0}),
                ImageResult("far", {"psnr": 29.0 + 2 * shift}),
            ),
        )
        for row, shift in (("one", 0), ("two", 1))
    ]
    columns = (("psnr", "PSNR", False), ("lpips", "LPIPS", True))
    results = Results(tmp_path / "out", "a <set>", "osediff", 2, columns, tuple(rows))
    write_report(results, pairs, files)
    assert most_different(results) == ["far", "near"]
    return tmp_path / "out" / "report.html"


def test_the_page_is_whole_and_needs_no_network(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "a &lt;set&gt;" in text
    assert "LPIPS is missing: no &lt;weights&gt; here" in text
    assert text.count("<svg") == 3
    assert text.count("data:image/webp;base64,") == 8
    assert not re.search(r"https?://|<link|src=|@import|url\(", text)


def test_plots_place_dots_by_their_values() -> None:
    svg = plot("t", "x", "y", [Point(1, 10, 0, "low"), Point(2, 20, 1, "high & far")])
    dots = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)
    (x1, y1), (x2, y2) = ((float(x), float(y)) for x, y in dots)
    assert x1 < x2
    assert y1 > y2
    assert "high &amp; far" in svg
    # More series than colours are told apart by shape.
    many = plot("t", "x", "y", [Point(0, 0, series, "") for series in range(2 * DIFFERENT)])
    assert len(set(re.findall(r'class="(dot [^"]+)"', many))) == 2 * DIFFERENT
    # One value alone, even 0, is a plot too.
    assert "<circle" in plot("t", "x", "y", [Point(0, 0, 0, "only")])


@pytest.fixture(params=["light", "dark"])
def browser(request: pytest.FixtureRequest, report: Path, tmp_path: Path) -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("no Chromium is installed")
    opened = Browser(report, tmp_path / "profile", dark=request.param == "dark")
    yield opened
    opened.close()


def _colour(browser: Browser, share: float) -> tuple[int, ...]:
    """The colour at a share of the first stage's width, as it is on the screen."""
    place = browser.value(
        "(() => { const r = document.querySelector('.stage').getBoundingClientRect();"
        "return [r.left, r.top, r.width]; })()"
    )
    with Image.open(BytesIO(browser.screenshot())) as shot:
        pixels = np.asarray(shot.convert("RGB"))
    x, y = int(place[0] + share * place[2]), int(place[1]) + 50
    return tuple(int(value) for value in pixels[y, x])


def test_the_slider_moves_the_edge_between_two_images(browser: Browser) -> None:
    browser.value("document.querySelector('.picture').scrollIntoView()")
    assert browser.value("document.querySelector('.picture h3').textContent") == "far"
    assert browser.value("document.querySelectorAll('.picture').length") == 2
    # The input on the left, the first row on the right.
    assert _colour(browser, 0.4) == COLOURS["lr"]
    assert _colour(browser, 0.6) == COLOURS["one"]
    browser.value("document.querySelector('input[type=range]').focus()")
    browser.press("ArrowRight", 40)
    assert browser.value("document.querySelector('input[type=range]').value") == "70"
    assert _colour(browser, 0.6) == COLOURS["lr"]
    assert _colour(browser, 0.8) == COLOURS["one"]
    choose = (
        "(() => { const s = document.querySelectorAll('select')[%d];"
        "s.value = %d; s.dispatchEvent(new Event('change')); })()"
    )
    browser.value(choose % (0, 1))
    browser.value(choose % (1, 3))
    assert _colour(browser, 0.6) == COLOURS["hr"]
    assert _colour(browser, 0.8) == COLOURS["two"]
    versions = browser.value(
        "[...document.querySelector('select').options].map(o => o.textContent)"
    )
    assert versions == ["input", "photograph", "one", "two"]
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def test_zooming_shows_single_pixels(browser: Browser) -> None:
    browser.value("document.querySelectorAll('.controls button')[0].click()")
    browser.value("document.querySelectorAll('.controls button')[0].click()")
    assert "scale(4)" in browser.value("document.querySelector('.layer img').style.transform")
    assert (
        browser.value("getComputedStyle(document.querySelector('.layer img')).imageRendering")
        == "pixelated"
    )


def test_pictures_are_lossless(report: Path) -> None:
    urls = re.findall(r"data:image/webp;base64,([^\"]+)", report.read_text(encoding="utf-8"))
    with Image.open(BytesIO(base64.b64decode(urls[2]))) as image:
        assert image.size == (96, 96)
        assert image.convert("RGB").getcolors() == [(96 * 96, COLOURS["one"])]
