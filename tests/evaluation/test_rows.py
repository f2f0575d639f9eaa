"""The rows of an evaluation: models, checkpoints, baselines, images and papers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluating import evaluate
from PIL import Image

from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.conversion import nncf_graphs
from passionsr_cli.conversion.openvino_graph import component_graph
from passionsr_cli.evaluation.results import Results
from passionsr_cli.inference import open as opening
from passionsr_cli.store import MODEL


def test_rows_of_all_kinds_stand_in_one_table(
    data: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = evaluate(data, output, model=[str(tiny_folder)], baseline=["bicubic", "lanczos"])
    again = evaluate(data, tmp_path / "other", images=[output / "images" / "bicubic"])
    assert [(row.name, row.kind) for row in first.rows] == [
        ("tiny", "model"),
        ("bicubic", "baseline"),
        ("lanczos", "baseline"),
    ]
    assert [(row.name, row.kind) for row in again.rows] == [("bicubic", "images")]
    assert again.rows[0].metrics == first.rows[1].metrics
    tiny, bicubic, _ = first.rows
    manifest = json.loads((tiny_folder / "manifest.json").read_text())
    assert tiny.model_bytes == manifest["tensors"]["bytes"]
    assert tiny.fingerprint == resolve(str(tiny_folder), MODEL).fingerprint
    assert tiny.seconds_per_image is not None
    assert tiny.seconds_per_image > 0
    assert (bicubic.model_bytes, again.rows[0].seconds_per_image) == (None, None)
    scores = [image.scores["psnr"] for image in bicubic.images]
    assert bicubic.metrics["psnr"] == pytest.approx(sum(scores) / 3, rel=1e-15)
    # The same folder for its own results: how long somebody took is still not known.
    (row,) = evaluate(data, output, images=[output / "images" / "bicubic"]).rows
    assert (row.seconds_per_image, row.metrics) == (None, bicubic.metrics)


def test_bicubic_is_pillows(data: Path, tmp_path: Path) -> None:
    evaluate(data, tmp_path / "out", baseline=["bicubic"])
    with Image.open(data / "test_LR" / "b.png") as lr:
        expected = lr.resize((lr.width * 4, lr.height * 4), Image.Resampling.BICUBIC)
    with Image.open(tmp_path / "out" / "images" / "bicubic" / "b.png") as found:
        assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_a_dial_is_a_row_for_each_setting(
    data: Path, tiny_folder: Path, dial_folder: Path, tmp_path: Path
) -> None:
    def run(**changes: Any) -> Results:
        models = [str(dial_folder), str(tiny_folder)]
        return evaluate(data, tmp_path / "out", model=models, metrics=["psnr"], **changes)

    default, *others = run(baseline=["bicubic"]).rows
    assert (default.name, default.realism) == ("tiny-dial", 0.25)
    found = run(baseline=["bicubic"], realism=[0, 0.25, 1, 0.25]).rows
    assert [(row.name, row.realism) for row in found] == [
        ("tiny-dial@0", 0),
        ("tiny-dial@0.25", 0.25),
        ("tiny-dial@1", 1),
        ("tiny", None),
        ("bicubic", None),
    ]
    faithful, same, natural, *plain = found
    assert [row.metrics for row in (same, *plain)] == [row.metrics for row in (default, *others)]
    assert len({row.metrics["psnr"] for row in (faithful, same, natural)}) == 3


def test_checkpoints_have_the_dial_of_their_model(
    data: Path, dial_folder: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    name = calibrate("w8a8", model=str(dial_folder))
    found = evaluate(data, tmp_path / "out", checkpoint=[name], realism=[0, 1], limit=1).rows
    assert [row.name for row in found][-3:] == ["w8a8@0", "w8a8@1", "bicubic"]
    assert len({row.metrics["psnr"] for row in found}) == len(found)


def test_published_rows_say_where_they_cannot_be_compared(data: Path, tmp_path: Path) -> None:
    found = evaluate(data, tmp_path / "out", images=[data / "test_HR"], published=True)
    assert found.published is not None
    rows = {(row.name, row.source.partition(",")[0]): row for row in found.published}
    paper = rows["PassionSR W8A8", "PassionSR (CVPR 2025)"]
    assert paper.metrics["musiq"] == 65.88
    assert "protocol passionsr" in paper.not_comparable
    assert "full-size" in paper.not_comparable
    assert rows["OSEDiff", "OSEDiff (NeurIPS 2024)"].not_comparable == ""
    assert rows["OSEDiff", "OSEDiff (NeurIPS 2024)"].metrics["niqe"] == 5.647


def test_nncf_is_a_row(
    data: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNCF's graphs have tests of their own; here they are those of the model itself."""
    asked: list[tuple[int, int]] = []

    def crops(description: object, size: int, count: int) -> list[torch.Tensor]:
        asked.append((size, count))
        return [torch.rand(1, 3, 32, 32)]

    monkeypatch.setattr("passionsr_cli.data.calibration_images.default_crops", crops)
    monkeypatch.setattr(opening, "version", lambda name: "1")
    monkeypatch.setattr(
        nncf_graphs, "nncf_graph", lambda model, name, images: component_graph(model, name)
    )
    found = evaluate(data, tmp_path / "out", model=[str(tiny_folder)], baseline=["nncf"], limit=1)
    _, nncf = found.rows
    assert (nncf.name, nncf.kind) == ("nncf", "baseline")
    assert nncf.model_bytes is not None
    assert nncf.model_bytes > 1000
    # Those of a calibration.
    assert asked == [(512, 32)]
