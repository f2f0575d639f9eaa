"""The page of `upscale --compare` in a real Chromium, on a screen and on a telephone."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from browser import TELEPHONE, Browser, find_chromium
from PIL import Image

from passionsr_cli.comparison.versions import Compared, Version
from passionsr_cli.comparison.writing import write_page
from passionsr_cli.imaging import samples
from passionsr_cli.pixels.arrays import rounded_levels
from passionsr_cli.pixels.resampling import bicubic

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium")
SLIDER, STAGE = "document.querySelector('input[type=range]')", "document.querySelector('.stage')"

TOUCHED = "matchMedia('(pointer: coarse)').matches"
# Which version a side shows, as a person chooses it.
CHOOSE = """(() => { const side = document.querySelectorAll('select')[%d];
side.value = %d; side.dispatchEvent(new Event('change')); })()"""

Pixels = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def compared() -> Compared:
    """A photograph, the small one made large, and another version, as `--beside` adds it."""
    large = samples.high_resolution("sample:coffee")[:, :200, :320]
    small = bicubic(samples.low_resolution("sample:coffee")[:, :50, :80], (200, 320)).clip(0, 1)
    images = {"input, bicubic": small, "result": large, "realism 1": 1 - large}
    versions = (Version(name, rounded_levels(rgb)) for name, rgb in images.items())
    return Compared("photo.jpg", tuple(versions))


@pytest.fixture(params=["screen", "telephone"])
def browser(
    request: pytest.FixtureRequest, compared: Compared, tmp_path: Path
) -> Iterator[Browser]:
    page = tmp_path / "photo_x4_compare.html"
    write_page(page, [compared])
    opened = Browser(page, tmp_path / "profile", telephone=request.param == "telephone")
    yield opened
    opened.close()


def _place(browser: Browser, element: str) -> tuple[float, float, float, float]:
    found = f"(({element}).getBoundingClientRect())"
    x, y, width, height = browser.value(f"[{found}.x, {found}.y, {found}.width, {found}.height]")
    return x, y, width, height


def _seen(browser: Browser) -> Pixels:
    """The pixels of the stage, as (H, W, 3)."""
    x, y, width, height = (round(side) for side in _place(browser, STAGE))
    shot = Image.open(BytesIO(browser.screenshot())).convert("RGB")
    return np.asarray(shot.crop((x, y, x + width, y + height)), np.float32)


def _near(seen: Pixels, version: Version, columns: slice) -> bool:
    """Tell whether these columns of the stage show that version, stretched."""
    pixels = Image.fromarray(np.ascontiguousarray(version.rgb.transpose(1, 2, 0)))
    wanted = pixels.resize((seen.shape[1], seen.shape[0]), Image.Resampling.NEAREST)
    difference = np.abs(seen - np.asarray(wanted, np.float32))[8:-8, columns]
    return float(difference.mean()) < 6


def test_the_slider_moves_between_two_versions(browser: Browser, compared: Compared) -> None:
    browser.value(f"{STAGE}.scrollIntoView({{block: 'center'}})")
    small, large, other = compared.versions
    before = _seen(browser)
    width = before.shape[1]
    left, middle, right = (
        slice(8, width * 3 // 8),
        slice(width * 9 // 16, width * 11 // 16),
        slice(width * 7 // 8, -8),
    )
    # At first the input and its result.
    assert _near(before, small, left)
    assert _near(before, large, middle)
    x, y, wide, high = _place(browser, SLIDER)
    start, end = (x + wide / 2, y + high / 2), (x + wide * 3 / 4, y + high / 2)
    (browser.swipe if browser.value(TOUCHED) else browser.drag)(start, end)
    assert float(browser.value(f"{SLIDER}.value")) == pytest.approx(75, abs=3)
    after = _seen(browser)
    assert _near(after, small, middle)
    assert _near(after, large, right)
    browser.value(f"{SLIDER}.focus()")
    browser.value(CHOOSE % (0, 2))
    assert _near(_seen(browser), other, middle)
    browser.press("ArrowLeft", 80)
    assert _near(_seen(browser), large, middle)
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def test_the_page_fits_its_window(browser: Browser) -> None:
    wide = browser.value("document.documentElement.scrollWidth")
    assert wide <= browser.value("innerWidth")
    assert wide in (1200, TELEPHONE[0])
    for element in (STAGE, SLIDER, "document.querySelector('.controls')"):
        x, _, width, _ = _place(browser, element)
        assert x >= 0
        assert x + width <= wide
    # Whatever is chosen or pressed is large enough for a mouse or a finger.
    smallest = 40 if browser.value(TOUCHED) else 16
    for kind in ("select", "button", "input[type=range]"):
        _, _, width, height = _place(browser, f"document.querySelector('{kind}')")
        assert min(width, height) >= smallest


def test_a_finger_scrolls_past_a_picture_until_it_is_zoomed(browser: Browser) -> None:
    assert browser.value(f"{STAGE}.style.touchAction") == "pan-y"
    browser.value("document.querySelector('.controls button').click()")
    assert browser.value(f"{STAGE}.style.touchAction") == "none"
    assert "scale(2)" in browser.value("document.querySelector('.layer img').style.transform")
