"""Titles end where they should, and show no signs of missing letters, whatever a file is called."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from passionsr_cli.comparison import titles
from passionsr_cli.comparison.titles import draw_title
from passionsr_cli.comparison.versions import Levels


def _drawn(text: str, width_px: int = 300) -> Levels:
    image = Image.new("L", (400, 40), "white")
    draw_title(ImageDraw.Draw(image), (10, 5), text, width_px)
    return np.asarray(image)


@pytest.mark.parametrize("text", ["a", "A long name " * 30, "a\nb\t\udce9\x1b", "Фото " * 30, ""])
def test_a_title_ends_within_its_width(text: str) -> None:
    drawn = _drawn(text)
    assert (drawn[:, :9] == 255).all()
    assert (drawn[:, 311:] == 255).all()
    assert (drawn[:, 10:310] < 128).any() == bool(text)


def test_what_does_not_fit_is_left_out_of_the_middle() -> None:
    first, last = _drawn("Wedding" + "m" * 200 + ".jpg"), _drawn("Wedding")
    assert np.array_equal(first[:, :60], last[:, :60])
    width = np.flatnonzero((_drawn(".jpg") < 255).any(0))
    ends = np.flatnonzero((first < 255).any(0))[-1] - np.arange(20)[::-1]
    assert np.array_equal(first[:, ends], _drawn(".jpg")[:, width[-1] - np.arange(20)[::-1]])


def test_letters_that_no_font_has_leave_what_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(titles, "SYSTEM_FONTS", ("there is none.ttf",))
    titles._fonts.cache_clear()
    assert np.array_equal(_drawn("照片 2024.jpg"), _drawn("… 2024.jpg"))
    assert np.array_equal(_drawn("照片"), _drawn("…"))
    titles._fonts.cache_clear()


def test_names_in_other_scripts_take_a_font_of_the_system() -> None:
    if len(titles._fonts()) == 1:
        pytest.skip("this system has none of the fonts")
    for name in ("Käse.jpg", "Ka\u0308se.jpg", "Фото.jpg"):
        assert not np.array_equal(_drawn(name), _drawn("….jpg"))
    assert np.array_equal(_drawn("Käse.jpg"), _drawn("Ka\u0308se.jpg"))
