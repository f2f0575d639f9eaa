"""`passionsr evaluate` from the command line to its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from passionsr_cli.cli.app import app


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(item) for item in arguments)])


def test_json_holds_the_table_and_nothing_else(tmp_path: Path) -> None:
    options = ("--baseline", "bicubic,lanczos", "--metrics", "psnr,ssim", "--limit", 2)
    done = _run(*options, "--output", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["dataset"], found["protocol"], found["n"]) == ("sample", "osediff", 2)
    assert [row["name"] for row in found["rows"]] == ["bicubic", "lanczos"]
    for row in found["rows"]:
        assert set(row) == {
            "name",
            "kind",
            "realism",
            "metrics",
            "missing",
            "seconds_per_image",
            "model_bytes",
        }
        assert set(row["metrics"]) == {"psnr", "ssim"}
        assert row["missing"] == {}
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"images", "records", "results.json", "results.csv", "report.html"}


def test_without_rows_there_are_the_embedded_model_and_bicubic(tmp_path: Path) -> None:
    options = ("--metrics", "psnr", "--limit", 1, "--backend", "torch")
    done = _run(*options, "--output", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [(row["name"], row["kind"]) for row in rows] == [
        ("mini", "model"),
        ("bicubic", "baseline"),
    ]
    assert rows[0]["model_bytes"] > 20e6
    assert rows[0]["seconds_per_image"] > 0


def test_the_table_shows_every_number_however_narrow_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    options = ("--baseline", "bicubic", "--limit", 1, "--output", tmp_path / "out", "--published")
    done = _run(*options)
    assert done.exit_code == 0, done.output
    title, head = done.stdout.splitlines()[:2]
    assert "sample, 1 image, protocol osediff" in title
    assert "PSNR ↑" in head
    assert "CLIP-IQA" not in head
    missing = "LPIPS, DISTS, NIQE, MUSIQ, MANIQA, CLIP-IQA, FID"
    (line,) = [line for line in done.stderr.splitlines() if "weights" in line]
    assert line.startswith(f"left out, for want of weights: {missing}; report.html says")
    assert f"without {missing}: report.html says why" in done.stdout
    assert "…" not in done.stdout
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "FID is missing: pt_inception-2015-12-05-6726825d.pth is not on this machine" in report
    assert max(map(len, done.stdout.splitlines()[:4])) <= 80


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--protocol", "nobody"], 2, "protocol"),
        (["--metrics", "fid", "--protocol", "passionsr"], 2, "has no metric 'fid'"),
        (["--baseline", "nearest"], 2, "baseline"),
        (["--limit", "0"], 2, "limit"),
        (["--realism", "0,2"], 2, "--realism: found '2', expected less than or equal to 1"),
        (["--realism", "0,much"], 2, "--realism: found 'much', expected a valid number"),
        (
            ["--baseline", "bicubic", "--realism", "0"],
            2,
            "what is compared has no dial for realism",
        ),
        (["--model", "mini", "--model", "nope"], 1, "unknown model 'nope'"),
        (["--model", "mini,adcsr"], 1, "'mini,adcsr', and no folder; expected one name, found 2"),
        (["--checkpoint", "nope"], 1, "no checkpoint named 'nope'"),
        (["--images", "nowhere"], 1, "nowhere: no such folder of finished images"),
        (["--dataset", "nowhere"], 1, "no data set 'nowhere'"),
        (["--metric-weights", "nowhere"], 1, "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_one_line_and_an_exit_code(
    options: list[str], code: int, message: str, tmp_path: Path
) -> None:
    done = _run(*options, "--output", tmp_path / "out")
    assert done.exit_code == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
