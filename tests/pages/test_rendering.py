from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from passionsr_cli.pages.rendering import render

HOSTILE = '</script><b>"it\'s" & {{ 7 * 7 }}'


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(
        '{% extends "base.html" %}{% block rest %}'
        '<script type="application/json">{{ data|tojson }}</script>{% endblock %}'
    )
    return path


def test_what_is_shown_is_escaped(template: Path) -> None:
    page = render(template, title=HOSTILE, heading="h", about=HOSTILE, remarks=[HOSTILE], data=1)
    assert "<b>" not in page
    assert "49" not in page
    assert page.count("&lt;/script&gt;&lt;b&gt;") == 3
    assert page.startswith("<!doctype html>")


def test_no_control_character_reaches_whoever_prints_the_page(template: Path) -> None:
    name = "a\x1b]0;title\x07\u202e.png"
    page = render(template, title=name, heading=name, about="", remarks=[name], data=[name])
    assert page.count("a\\x1b]0;title\\x07\\u202e.png") == 3
    assert not {"\x1b", "\x07", "\u202e"} & set(page)
    found = re.search(r'json">(.*?)</script>', page)
    assert found
    assert json.loads(found[1]) == [name]


def test_data_for_a_script_stays_inside_it_and_comes_out_as_it_was(template: Path) -> None:
    page = render(template, title="", heading="", about="", remarks=[], data=[HOSTILE])
    assert page.count("</script>") == 1
    found = re.search(r'json">(.*?)</script>', page)
    assert found
    assert "\\u003c/script" in found[1]
    assert json.loads(found[1]) == [HOSTILE]


def test_a_value_that_is_missing_is_an_error(template: Path) -> None:
    with pytest.raises(UndefinedError, match="about"):
        render(template, title="", heading="", remarks=[], data=1)
