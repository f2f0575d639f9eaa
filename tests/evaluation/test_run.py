from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli import api
from passionsr_cli.checkpoints.artifacts import resolve
from passionsr_cli.conversion import nncf_graphs
from passionsr_cli.conversion.openvino_graph import component_graph
from passionsr_cli.errors import ConfigError, DataError, DeviceError, ImageError, MetricError
from passionsr_cli.evaluation import candidates, generate
from passionsr_cli.evaluation.results import Results
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.inference import open as opening
from passionsr_cli.metrics import catalogue, scoring
from passionsr_cli.metrics.catalogue import Metric, metrics_of
from passionsr_cli.metrics.scoring import Scorer
from passionsr_cli.metrics.weights import WeightsFinder
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.progress import NO_DETAILS, Silent
from passionsr_cli.store import MODEL

NAMES = ("a", "b", "c")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pairs, of different sizes."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "RealSR"
    for number, name in enumerate(NAMES):
        side = 48 + 8 * number
        large = Image.fromarray(draw.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        large = large.resize((side, side), Image.Resampling.BICUBIC)
        for part, image in (("test_HR", large), ("test_LR", large.resize((side // 4, side // 4)))):
            (folder / part).mkdir(parents=True, exist_ok=True)
            image.save(folder / part / f"{name}.png")
    return folder


def _evaluate(data: Path, output: Path, **changes: Any) -> Results:
    values = {
        "dataset": str(data),
        "output": output,
        "metrics": ["psnr", "ssim"],
        "device": "cpu",
        "precision": "fp32",
        "backend": "torch",
        **changes,
    }
    return api.evaluate(EvaluationSettings.model_validate(values), _counting)


class _Counting(Silent):
    """How many images were upscaled and scored, by row."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def step(self, task: str, done: float, details: Mapping[str, float] = NO_DETAILS) -> None:
        self.counts[task] += 1


_counting = _Counting()


@pytest.fixture(autouse=True)
def counting() -> Counter[str]:
    _counting.counts.clear()
    return _counting.counts


def test_rows_of_all_kinds_stand_in_one_table(
    data: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = _evaluate(data, output, model=[str(tiny_folder)], baseline=["bicubic", "lanczos"])
    again = _evaluate(data, tmp_path / "other", images=[output / "images" / "bicubic"])
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
    (row,) = _evaluate(data, output, images=[output / "images" / "bicubic"]).rows
    assert (row.seconds_per_image, row.metrics) == (None, bicubic.metrics)


def test_bicubic_is_pillows(data: Path, tmp_path: Path) -> None:
    _evaluate(data, tmp_path / "out", baseline=["bicubic"])
    with Image.open(data / "test_LR" / "b.png") as lr:
        expected = lr.resize((lr.width * 4, lr.height * 4), Image.Resampling.BICUBIC)
    with Image.open(tmp_path / "out" / "images" / "bicubic" / "b.png") as found:
        assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_files_hold_every_image_and_what_made_it(data: Path, tmp_path: Path) -> None:
    results = _evaluate(data, tmp_path / "out", baseline=["bicubic"])
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
        return _evaluate(data, tmp_path / "out", model=[str(tiny_folder)], baseline=[], **changes)

    first = run(limit=2)
    assert counting["upscaling tiny"] == 2
    images = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/images/*/*")}
    counting.clear()
    all_of_them = run()
    assert counting["upscaling tiny"] == 1
    assert all(path.stat().st_mtime_ns == time for path, time in images.items())
    assert all_of_them.rows[0].images[:2] == first.rows[0].images
    counting.clear()
    run(color_fix="adain")
    assert counting["upscaling tiny"] == 3


def test_scores_are_not_computed_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["psnr"])
    asked: list[str] = []
    plain = Scorer.score

    def score(self: Scorer, *images: torch.Tensor) -> float:
        asked.append(self.metric.key)
        return plain(self, *images)

    monkeypatch.setattr(Scorer, "score", score)
    _evaluate(data, tmp_path / "out", baseline=["bicubic"])
    assert asked == ["ssim"] * 3
    # Another photograph under the same name has other scores.
    path = data / "test_HR" / "c.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    _evaluate(data, tmp_path / "out", baseline=["bicubic"])
    assert sorted(asked[3:]) == ["psnr", "ssim"]


def test_another_low_resolution_image_is_upscaled_again(
    data: Path, tmp_path: Path, counting: Counter[str]
) -> None:
    _evaluate(data, tmp_path / "out", baseline=["bicubic"])
    path = data / "test_LR" / "c.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    counting.clear()
    _evaluate(data, tmp_path / "out", baseline=["bicubic"])
    assert counting["upscaling bicubic"] == 1


def test_finished_images_need_no_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, name in ((generate, "maker"), (candidates, "resolve"), (OneStepModel, "__init__")):
        monkeypatch.setattr(room, name, lambda *args, **kwargs: pytest.fail("a model was touched"))
    found = _evaluate(data, tmp_path / "out", images=[data / "test_HR"], metrics=["psnr"])
    # pyiqa's PSNR of an image to itself.
    assert found.rows[0].metrics["psnr"] == pytest.approx(80)


def test_sizes_that_differ_are_said_before_any_work(
    data: Path, tmp_path: Path, counting: Counter[str]
) -> None:
    finished = tmp_path / "mine"
    finished.mkdir()
    for name in NAMES:
        Image.new("RGB", (64, 64)).save(finished / f"{name}.png")
    with pytest.raises(DataError, match=r"mine/a.png gives 64×64 px, .*test_HR/a.png has 48×48"):
        _evaluate(data, tmp_path / "out", images=[finished], baseline=["bicubic"])
    Image.new("RGB", (8, 12)).save(data / "test_LR" / "b.png")
    with pytest.raises(DataError, match=r"test_LR/b.png gives 32×48 px, .*test_HR/b.png has 56×56"):
        _evaluate(data, tmp_path / "out")
    assert not counting
    assert not (tmp_path / "out").exists()


def test_a_finished_image_that_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    _evaluate(data, tmp_path / "out", baseline=["bicubic"])
    folder = tmp_path / "out" / "images" / "bicubic"
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"holds no result of .*test_LR/b.png; .* b or b_x4"):
        _evaluate(data, tmp_path / "other", images=[folder])
    assert _evaluate(data, tmp_path / "other", images=[folder], limit=1).n == 1


def test_an_image_that_cannot_be_read_is_named(data: Path, tmp_path: Path) -> None:
    path = data / "test_HR" / "b.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"test_HR/b.png"):
        _evaluate(data, tmp_path / "out", baseline=["bicubic"])
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"test_HR/b.png: cannot be read as an image"):
        _evaluate(data, tmp_path / "out", baseline=["bicubic"])


def test_no_number_is_an_error_that_names_the_image(
    data: Path, tmp_path: Path, niqe_folder: Path
) -> None:
    with pytest.raises(MetricError, match=r"images/bicubic/a.png: NIQE"):
        _evaluate(
            data,
            tmp_path / "out",
            baseline=["bicubic"],
            metrics=["psnr", "niqe"],
            metric_weights=niqe_folder,
        )
    assert not (tmp_path / "out" / "results.json").exists()


def test_missing_weights_leave_the_other_metrics(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    found = _evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["psnr", "lpips"])
    (row,) = found.rows
    assert set(row.metrics) == {"psnr"}
    assert "LPIPS_v0.1_alex-df73285e.pth is not on this machine" in row.missing["lpips"]
    with pytest.raises(MetricError, match="lpips cannot be computed"):
        _evaluate(data, tmp_path / "strict", metrics=["psnr", "lpips"], strict=True)
    with pytest.raises(MetricError, match="lpips cannot be computed"):
        _evaluate(data, tmp_path / "none", metrics=["lpips"])


def test_an_optional_metric_stands_in_where_weights_are_missing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PSNR stands in for a metric that cannot be here; nobody asked for it by name."""
    psnr, _, lpips = metrics_of("osediff", ["psnr", "ssim", "lpips"])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def columns(stand_in: Metric, **changes: Any) -> tuple[list[str], str]:
        protocol = (replace(lpips, stand_in=stand_in),)
        monkeypatch.setitem(catalogue.PROTOCOLS, "osediff", protocol)
        found = _evaluate(data, tmp_path / "out", baseline=["bicubic"], **changes)
        return [key for key, _, _ in found.columns], found.rows[0].missing.get("lpips", "")

    keys, reason = columns(psnr, metrics=None)
    assert keys == ["lpips", "psnr"]
    assert reason.endswith("PSNR stands in")
    assert columns(psnr, metrics=["psnr"]) == (["psnr"], "")
    lack = replace(lpips, key="other", title="Other")
    with pytest.raises(MetricError, match="Other could stand in, but LPIPS_v0"):
        columns(lack, metrics=None)


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
    found = _evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["fid"], limit=2)
    images = [tmp_path / "out" / "images" / "bicubic" / f"{name}.png" for name in "ab"]
    references = [data / "test_HR" / f"{name}.png" for name in "ab"]
    one, other = (sum(p.stat().st_size for p in side) for side in (images, references))
    assert found.rows[0].metrics == {"fid": one + other / 1e6}
    _evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["fid"], limit=2)
    assert len(asked) == 1
    _evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["fid"])
    assert len(asked) == 2


def test_two_rows_of_one_name_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two rows would be called 'test_HR'"):
        _evaluate(data, tmp_path / "out", images=[data / "test_HR"] * 2)


def test_a_dial_is_a_row_for_each_setting(
    data: Path, tiny_folder: Path, dial_folder: Path, tmp_path: Path
) -> None:
    def run(**changes: Any) -> Results:
        models = [str(dial_folder), str(tiny_folder)]
        return _evaluate(data, tmp_path / "out", model=models, metrics=["psnr"], **changes)

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
    found = _evaluate(data, tmp_path / "out", checkpoint=[name], realism=[0, 1], limit=1).rows
    assert [row.name for row in found][-3:] == ["w8a8@0", "w8a8@1", "bicubic"]
    assert len({row.metrics["psnr"] for row in found}) == len(found)


def test_without_a_dial_there_is_nothing_to_set(
    data: Path, tiny_folder: Path, tmp_path: Path, counting: Counter[str]
) -> None:
    with pytest.raises(ConfigError, match="what is compared has no dial for realism; models that"):
        _evaluate(data, tmp_path / "out", model=[str(tiny_folder)], realism=[0.5])
    assert not counting
    assert not (tmp_path / "out").exists()


def test_published_rows_say_where_they_cannot_be_compared(data: Path, tmp_path: Path) -> None:
    found = _evaluate(data, tmp_path / "out", images=[data / "test_HR"], published=True)
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
    found = _evaluate(data, tmp_path / "out", model=[str(tiny_folder)], baseline=["nncf"], limit=1)
    _, nncf = found.rows
    assert (nncf.name, nncf.kind) == ("nncf", "baseline")
    assert nncf.model_bytes is not None
    assert nncf.model_bytes > 1000
    # Those of a calibration.
    assert asked == [(512, 32)]


def test_without_nncf_there_is_one_clear_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(opening, "version", none)
    with pytest.raises(DeviceError, match="pip install nncf"):
        _evaluate(data, tmp_path / "out", baseline=["nncf"])


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
        _evaluate(data, tmp_path / "one", model=[str(tiny_folder)], baseline=["bicubic"])
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
