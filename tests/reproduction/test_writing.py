from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from passionsr_cli.errors import OutputError
from passionsr_cli.reproduction.definitions import Column, RowDefinition
from passionsr_cli.reproduction.results import Table, our_line, published_line, unfinished_line
from passionsr_cli.reproduction.writing import comma_separated, markdown, page, write_table

COLUMNS = (Column("psnr", "PSNR ↑"), Column("lpips", "LPIPS ↓"), Column("hours", "time (h)", 3))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    alone = RowDefinition(label="A & B", published_only=True)
    first, second = (
        RowDefinition(label=label, bits="w4a4", method="maxmin") for label in ("First", "Second")
    )
    lines = (
        published_line(alone, COLUMNS, {"psnr": "25.10"}),
        our_line(first, "mini", COLUMNS, {"psnr": 26.78449, "hours": 0.01}, "mini-w4a4-maxmin"),
        published_line(first, COLUMNS, {"psnr": "16.01", "lpips": "0.7016"}),
        unfinished_line(second, "mini", COLUMNS, None, "it diverged"),
    )
    return Table(
        tmp_path / "out",
        "Title",
        "About it",
        COLUMNS,
        lines,
        ("<remark>",),
        {"LPIPS": "no weights"},
    )


def test_markdown_has_the_papers_layout(table: Table) -> None:
    assert markdown(table).splitlines() == [
        "# Title",
        "",
        "About it.",
        "",
        "| bits | method |  | PSNR ↑ | LPIPS ↓ | time (h) |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| FP | A & B | published only | 25.10 |  |  |",
        "| W4A4 | First | mini | 26.784 | missing | 0.010 |",
        "|  |  | published | 16.01 | 0.7016 |  |",
        "|  | Second | mini | failed |  |  |",
        "",
        r"- \<remark>",
        "- LPIPS is missing: no weights",
        "- Second W4A4 failed: it diverged",
    ]


def test_names_are_shown_as_they_are(table: Table) -> None:
    """None is taken for a cell's end, for Markdown or for HTML; rows that are beaten are italic."""
    row = RowDefinition(label="a|b_c*<i>`d`[e]~\\\n&lt; & f", bits="w4a4", method="maxmin")
    beaten = replace(our_line(row, "mini", COLUMNS, {"psnr": 26.5, "lpips": 0.5}), beaten=True)
    odd = replace(table, title="One\n*two*", lines=(beaten,), remarks=("3 < 4",))
    lines = markdown(odd).splitlines()
    assert lines[0] == r"# One \*two\*"
    shown = r"a\|b\_c\*\<i>\`d\`\[e]\~\\ \&lt; & f"
    assert lines[6] == f"| *W4A4* | *{shown}* | *mini* | *26.500* | *0.5000* |  |"
    assert r"- 3 \< 4" in lines
    assert "a|b_c*&lt;i&gt;`d`[e]~\\\n&amp;lt; &amp; f</th>" in page(odd, None)
    (written,) = csv.DictReader(StringIO(comma_separated(odd)))
    assert (written["method"], written["beaten"]) == (row.label, "yes")


def test_csv_has_the_numbers_as_they_are(table: Table) -> None:
    lines = list(csv.DictReader(StringIO(comma_separated(table))))
    assert [line["bits"] for line in lines] == ["FP", "W4A4", "W4A4", "W4A4"]
    assert (lines[1]["psnr"], lines[1]["lpips"]) == ("26.78449", "")
    assert (lines[1]["checkpoint"], lines[1]["state"]) == ("mini-w4a4-maxmin", "done")
    assert {line["beaten"] for line in lines} == {""}
    assert "to_fp_deviation" not in lines[0]
    assert (lines[3]["state"], lines[3]["error"]) == ("failed", "it diverged")


def test_the_page_is_whole_and_links_to_pictures_that_are_there(table: Table) -> None:
    text = page(table, None)
    assert "<th>A &amp; B</th><th>published only</th><td>25.10</td>" in text
    assert "<li>&lt;remark&gt;</li>" in text
    assert "href" not in text
    write_table(table)
    assert (table.folder / "table.html").read_text() == text
    (table.folder / "report.html").touch()
    write_table(table)
    assert '<a href="report.html">' in (table.folder / "table.html").read_text()


def test_a_folder_that_cannot_be_is_one_line(table: Table) -> None:
    table.folder.touch()
    with pytest.raises(OutputError, match=r"table.html: cannot be written"):
        write_table(table)
