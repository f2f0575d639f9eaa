from __future__ import annotations

import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from passionsr_cli.errors import OutputError
from passionsr_cli.system.own_files import MADE_BY, MARK, check_replaceable, is_own, place_for


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_marked_picture_is_known_in_every_format(tmp_path: Path, suffix: str) -> None:
    figure = Figure(figsize=(13, 5), layout="constrained")
    for axes in figure.subplots(1, 2):
        axes.plot(range(500), range(500), label="y²")
        axes.legend()
    own, other = tmp_path / f"own{suffix}", tmp_path / f"other{suffix}"
    figure.savefig(own, metadata=MARK)
    figure.savefig(other)
    assert (is_own(own), is_own(other)) == (True, False)


def test_files_of_others_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    assert place_for(path) == path
    path.write_text(f"<!-- {MADE_BY} -->")
    assert place_for(path) == path
    path.write_text(f"a photograph of what is {MADE_BY}")
    (tmp_path / "sheet-2.png").symlink_to("nowhere")
    assert place_for(path) == tmp_path / "sheet-3.png"
    os.mkfifo(tmp_path / "sheet-3.png")
    assert place_for(path) == tmp_path / "sheet-4.png"


def test_what_goes_beside_a_page_is_known_by_that(tmp_path: Path) -> None:
    page, table = tmp_path / "table.html", tmp_path / "table.csv"
    check_replaceable(page, table.name)
    table.write_text("1,2")
    with pytest.raises(OutputError, match=r"table\.csv: is there already, and passionsr did not"):
        check_replaceable(page, table.name)
    page.write_text(f"<!-- {MADE_BY} -->")
    check_replaceable(page, table.name)
