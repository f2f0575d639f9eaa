"""The tables of the package are whole, and say what papers said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.published import published_table
from passionsr_cli.layering import preset_names
from passionsr_cli.reproduction.definitions import read_table, table_names

METHODS = {"maxmin", "lsq", "qdiffusion", "efficientdm", "qdm", "passionsr", "svdquant", "qartsr"}


def test_there_are_four_and_none_is_a_preset() -> None:
    names = ["passionsr-table2", "passionsr-table3", "passionsr-table4", "qartsr-table3"]
    assert table_names() == names
    assert not set(names) & set(preset_names())


@pytest.mark.parametrize("name", ["passionsr-table2", "passionsr-table3", "qartsr-table3"])
def test_rows_are_those_of_the_paper_in_its_order(name: str) -> None:
    table = read_table(name)
    lines = published_table(table.published).rows
    printed = [line.name for line in lines if line.dataset in (None, "RealSR")]
    assert [row.name for row in table.rows] == printed


def test_the_ablation_has_the_papers_rows_and_a_first_one_to_compare_with() -> None:
    table = read_table("passionsr-table4")
    printed = [line.name for line in published_table(table.published).rows]
    assert [row.name for row in table.rows] == ["full precision", *printed]


def test_every_method_is_one_that_is_or_will_be_there() -> None:
    rows = [row for name in table_names() for row in read_table(name).rows]
    assert {row.method for row in rows} == METHODS | {None}


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    values = {
        "title": "Mine",
        "published": "QArtSR, Table 3",
        "columns": ["niqe", "to_fp_db"],
        "rows": [{"label": "Ours", "bits": "w4a4", "method": "maxmin"}],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    table = read_table(str(path))
    assert [column.title for column in table.shown_columns(None)] == ["NIQE ↓", "to FP (dB) ↑"]
    assert [column.key for column in table.shown_columns(["psnr"])] == ["to_fp_db"]
    for change, message in (
        ({"columns": ["fid"]}, "no column 'fid'; there are psnr, "),
        ({"rows": [{"label": "Ours", "bits": "w4a4"}]}, "row 'Ours W4A4' names no method"),
        ({"row": []}, "unknown key 'row', did you mean 'rows'?"),
    ):
        path.write_text(yaml.safe_dump({**values, **change}))
        with pytest.raises(ConfigError, match=r"mine\.yaml") as error:
            read_table(str(path))
        assert message in str(error.value)
