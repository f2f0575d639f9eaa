from __future__ import annotations

import os

import pytest

from passionsr_cli.system.text import counted, one_line, printable, spreadsheet_cell


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("café, 写真.png", "café, 写真.png"),
        ("a\x1b]0;title\x07b", "a\\x1b]0;title\\x07b"),
        ("a\x9b2Jb", "a\\x9b2Jb"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        (os.fsdecode(b"caf\xe9"), "caf?"),
        ("a\nerror: forged\tb", "a\nerror: forged\tb"),
    ],
)
def test_control_characters_are_shown_not_obeyed(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_a_name_stays_on_its_line() -> None:
    assert one_line("a.png\nerror: forged") == "a.png\\nerror: forged"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_no_name(text: str) -> None:
    assert spreadsheet_cell(text) == f"'{printable(text)}"
    assert spreadsheet_cell(f"a{text}\x1b[2J") == f"a{printable(text)}\\x1b[2J"


def test_one_thing_is_not_several() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
