"""Records on disk: what cannot be read counts as not done."""

from __future__ import annotations

from pathlib import Path

import pytest

from passionsr_cli.errors import OutputError
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


def test_what_is_no_record_stays(tmp_path: Path) -> None:
    folder = RowFolder(tmp_path, "row")
    folder.write("old", Record(made_by="another"))
    folder.write("new", Record(made_by="this"))
    (folder.records / "letter.json").write_text('{"dear": "reader"}')
    folder.keep_only("this")
    assert {path.name for path in folder.records.iterdir()} == {"new.json", "letter.json"}


@pytest.mark.parametrize("name", ["images", "images/row", "records", "records/row"])
def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "other")
    with pytest.raises(OutputError, match=f"{name} is a link"):
        RowFolder(tmp_path / "out", "row")
