from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from passionsr_cli.data.pairs import Dataset
from passionsr_cli.errors import ConfigError
from passionsr_cli.evaluation.published import (
    Table,
    published_rows,
    published_table,
    read_published,
)


def test_every_table_names_its_source_and_is_whole() -> None:
    tables = read_published().tables
    assert all(table.url.startswith("https://") for table in tables)
    counts = Counter(row.dataset for table in tables for row in table.rows)
    # Sizes are of no data set.
    assert set(counts) == {"RealSR", "DRealSR", "DIV2K_val", "Urban100", None}
    # Three data sets with 12 rows each, an ablation of 4, and 23 rows.
    assert [len(table.rows) for table in tables[:3]] == [36, 4, 23]
    assert len(published_table("PassionSR (CVPR 2025), Table 3").rows) == counts[None] == 7


def test_costs_stand_beside_metrics_but_not_among_them() -> None:
    table = published_table("PassionSR (CVPR 2025), Table 4")
    printed = {row.name: table.printed(row) for row in table.rows}
    assert (printed["LBQ W6A6"]["hours"], printed["LBQ W6A6"]["memory_gb"]) == ("2.66", "40")
    rows = published_rows(Dataset("RealSR", (), crops=True), "osediff")
    assert not {"hours", "memory_gb"} & {key for row in rows for key in row.metrics}
    with pytest.raises(ConfigError, match="nothing is published as 'Table 9'; there are: Pass"):
        published_table("Table 9")


def test_numbers_keep_their_printed_digits() -> None:
    rows = published_rows(Dataset("RealSR", (), crops=True), "osediff")
    paper = next(row for row in rows if row.name == "Real-ESRGAN")
    assert paper.printed["psnr"] == "25.69"
    lsq = next(row for row in rows if row.name == "LSQ W8A8")
    assert (lsq.printed["niqe"], lsq.metrics["niqe"]) == ("10.08", 10.08)


def test_what_cannot_be_compared_comes_last_and_says_why() -> None:
    crops, whole = (Dataset("RealSR", (), crops=crops) for crops in (True, False))
    rows = published_rows(crops, "osediff")
    reasons = [row.not_comparable != "" for row in rows]
    assert reasons == sorted(reasons)
    assert [row.source.partition(" ")[0] for row in rows if not row.not_comparable] == [
        "OSEDiff",
        "OSEDiff",
    ]
    same = {row.source for row in published_rows(whole, "passionsr") if not row.not_comparable}
    assert "PassionSR (CVPR 2025), Table 2" in same
    other = {row.source: row.not_comparable for row in published_rows(whole, "osediff")}
    assert other["QArtSR, Table 3"] == "protocol passionsr, whose MANIQA is another metric"
    assert published_rows(Dataset("Set5", ()), "osediff") == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ["psnr", "fid"]}, "has no {'fid'}"),
        ({"columns": ["psnr"]}, "x has 2 values"),
        ({"rows": [{"dataset": "RealSR", "name": "x", "values": ["25.1", "?"]}]}, "values"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(change: dict[str, object], message: str) -> None:
    table = {
        "source": "s",
        "url": "https://x.org",
        "protocol": "passionsr",
        "crops": False,
        "columns": ["psnr", "ssim"],
        "rows": [{"dataset": "RealSR", "name": "x", "values": ["25.1", "0.7"]}],
    }
    Table.model_validate(table)
    with pytest.raises(ValidationError, match=message):
        Table.model_validate({**table, **change})
