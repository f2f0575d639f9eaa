"""Numbers in Netpbm's files, which no thread may silence warnings for."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from passionsr_cli.errors import ImageError
from passionsr_cli.imaging.netpbm import read_deep

HEADER = b"P3\n2 1\n1000\n"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (b"", "rows of it are missing"),
        (b"0 1 2 3 4", "rows of it are missing"),
        (b"0 1 2 x 4 5", "rows of it are missing"),
        (b"0 1 2 -3 4 5", "rows of it are missing"),
        (b"0 1 2 3 4 1001", "levels above its white, 1000"),
    ],
)
def test_damaged_digits(tmp_path: Path, levels: bytes, message: str) -> None:
    (tmp_path / "a.ppm").write_bytes(HEADER + levels)
    with pytest.raises(ImageError, match=message):
        read_deep(tmp_path / "a.ppm")


def test_digits_are_read_without_a_change_of_what_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.ppm").write_bytes(HEADER + b"0 1 # one\n2\t3 4 1000 what follows")
    monkeypatch.setattr(warnings, "catch_warnings", None)
    pixels = read_deep(tmp_path / "a.ppm")
    assert pixels is not None
    assert pixels.ravel() * 1000 == pytest.approx([0, 1, 2, 3, 4, 1000])
