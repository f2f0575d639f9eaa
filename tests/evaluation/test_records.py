"""Records on disk: what cannot be read counts as not done."""

from __future__ import annotations

from pathlib import Path

import pytest

from passionsr_cli.evaluation.records import Record, RowFolder


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder, record = (
        RowFolder(tmp_path, "row"),
        Record("made", "lr", 0.5, "image", "hr", {"psnr": 3}),
    )
    folder.write("a", record)
    assert folder.read("a") == record
    assert folder.read("b") == Record()


@pytest.mark.parametrize(
    "content",
    ["5", "[]", "{", "", '{"scores": 5}', '{"scores": {"psnr": "high"}}', "[" * 100_000, "\0"],
)
def test_a_damaged_record_is_none(tmp_path: Path, content: str) -> None:
    folder = RowFolder(tmp_path, "row")
    folder.write("a", Record("made"))
    (folder.records / "a.json").write_text(content)
    assert folder.read("a") == Record()
