"""What an evaluation computes, once, and what it writes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluating import NAMES, evaluate
from PIL import Image

from passionsr_cli.evaluation import candidates, generate
from passionsr_cli.evaluation.results import Results
from passionsr_cli.metrics import scoring
from passionsr_cli.metrics.scoring import Scorer
from passionsr_cli.metrics.weights import WeightsFinder
from passionsr_cli.models.one_step import OneStepModel


def test_files_hold_every_image_and_what_made_it(data: Path, tmp_path: Path) -> None:
    results = evaluate(data, tmp_path / "out", baseline=["bicubic"])
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["versions"]["pyiqa"]
    assert stored["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (stored["protocol"], stored["n"], stored["dataset"]) == ("osediff", 3, "RealSR")
    assert stored["metric_settings"]["psnr"]["options"] == {
        "test_y_channel": True,
        "color_space": "ycbcr",
    }
    (row,) = stored["rows"]
    assert [image["name"] for image in row["images"]] == list(NAMES)
    with (tmp_path / "out" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    values = {(line["image"], line["metric"]): float(line["value"]) for line in lines}
    assert values["all", "psnr"] == results.rows[0].metrics["psnr"]
    assert values["b", "ssim"] == row["images"][1]["scores"]["ssim"]
    assert {line["row"] for line in lines} == {"bicubic"}


def test_nothing_is_done_twice(
    data: Path, tiny_folder: Path, tmp_path: Path, counting: Counter[str]
) -> None:
    def run(**changes: Any) -> Results:
        return evaluate(data, tmp_path / "out", model=[str(tiny_folder)], baseline=[], **changes)

    first = run(limit=2)
    assert counting["upscaling tiny"] == 2
    images = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/images/*/*")}
    counting.clear()
    # A page that somebody threw away is made anew.
    (tmp_path / "out" / "report.html").unlink()
    all_of_them = run()
    assert (tmp_path / "out" / "report.html").exists()
    assert counting["upscaling tiny"] == 1
    assert all(path.stat().st_mtime_ns == time for path, time in images.items())
    assert all_of_them.rows[0].images[:2] == first.rows[0].images
    counting.clear()
    run(color_fix="adain")
    assert counting["upscaling tiny"] == 3


def test_scores_are_not_computed_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["psnr"])
    asked: list[str] = []
    plain = Scorer.score

    def score(self: Scorer, *images: torch.Tensor) -> float:
        asked.append(self.metric.key)
        return plain(self, *images)

    monkeypatch.setattr(Scorer, "score", score)
    evaluate(data, tmp_path / "out", baseline=["bicubic"])
    assert asked == ["ssim"] * 3
    # Another photograph under the same name has other scores.
    path = data / "test_HR" / "c.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    evaluate(data, tmp_path / "out", baseline=["bicubic"])
    assert sorted(asked[3:]) == ["psnr", "ssim"]


def test_another_low_resolution_image_is_upscaled_again(
    data: Path, tmp_path: Path, counting: Counter[str]
) -> None:
    evaluate(data, tmp_path / "out", baseline=["bicubic"])
    path = data / "test_LR" / "c.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    counting.clear()
    evaluate(data, tmp_path / "out", baseline=["bicubic"])
    assert counting["upscaling bicubic"] == 1


def test_a_picture_in_the_place_of_a_result_is_not_taken_for_it(data: Path, tmp_path: Path) -> None:
    def run() -> float:
        found = evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["psnr"])
        return found.rows[0].metrics["psnr"]

    first = run()
    shutil.copy(data / "test_HR" / "c.png", tmp_path / "out" / "images" / "bicubic" / "c.png")
    assert run() == first


def test_finished_images_need_no_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, name in ((generate, "maker"), (candidates, "resolve"), (OneStepModel, "__init__")):
        monkeypatch.setattr(room, name, lambda *args, **kwargs: pytest.fail("a model was touched"))
    found = evaluate(data, tmp_path / "out", images=[data / "test_HR"], metrics=["psnr"])
    # pyiqa's PSNR of an image to itself.
    assert found.rows[0].metrics["psnr"] == pytest.approx(80)


def test_a_metric_of_sets_sees_exactly_the_images_of_the_table(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FID itself needs a large network; here it is the number of bytes on each side."""
    asked: list[str] = []

    def sizes(images: str, references: str, **options: object) -> float:
        asked.append(images)
        sides = [Path(side).iterdir() for side in (images, references)]
        one, other = (sum(path.stat().st_size for path in side) for side in sides)
        return one + other / 1e6

    monkeypatch.setattr(scoring, "built", lambda metric, files, device: sizes)
    monkeypatch.setattr(WeightsFinder, "find", lambda self, metric: {})
    found = evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["fid"], limit=2)
    images = [tmp_path / "out" / "images" / "bicubic" / f"{name}.png" for name in "ab"]
    references = [data / "test_HR" / f"{name}.png" for name in "ab"]
    one, other = (sum(p.stat().st_size for p in side) for side in (images, references))
    assert found.rows[0].metrics == {"fid": one + other / 1e6}
    evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["fid"], limit=2)
    assert len(asked) == 1
    evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["fid"])
    assert len(asked) == 2


def test_two_processes_find_what_one_finds(data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    options = ["--dataset", str(data), "--model", str(tiny_folder), "--metrics", "psnr,ssim"]
    options += ["--baseline", "bicubic", "--device", "cpu", "--backend", "torch", "--json"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "passionsr_cli", "evaluate", *options]
    done = subprocess.run(
        [*command, "--precision", "fp32", "--output", str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # One of them speaks.
    two = json.loads(done.stdout)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        evaluate(data, tmp_path / "one", model=[str(tiny_folder)], baseline=["bicubic"])
    finally:
        torch.set_num_threads(threads)
    stored = [
        json.loads((tmp_path / name / "results.json").read_text())["rows"]
        for name in ("one", "two")
    ]
    for mine, shared, row in zip(*stored, two["rows"], strict=True):
        assert mine["metrics"] == shared["metrics"] == row["metrics"]
        assert [image["scores"] for image in mine["images"]] == [
            image["scores"] for image in shared["images"]
        ]
