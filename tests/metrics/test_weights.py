from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from passionsr_cli.errors import DownloadError, MetricError
from passionsr_cli.metrics import weights
from passionsr_cli.metrics.catalogue import PROTOCOLS
from passionsr_cli.metrics.weights import WeightsFinder
from passionsr_cli.progress import Notes

METRICS = {metric.key: metric for metric in PROTOCOLS["osediff"]}


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_given_folder_goes_before_the_cache(tmp_path: Path, hub: Path) -> None:
    name = "niqe_modelparameters.mat"
    (hub / "pyiqa").mkdir(parents=True)
    (hub / "pyiqa" / name).write_text("cached")
    assert list(WeightsFinder().find(METRICS["niqe"]).values()) == [hub / "pyiqa" / name]
    (tmp_path / name).write_text("given")
    assert list(WeightsFinder(tmp_path).find(METRICS["niqe"]).values()) == [tmp_path / name]


def test_offline_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "download", lambda *args: pytest.fail("it was tried"))
    with pytest.raises(MetricError, match=r"RN50.pt is not on this machine and HF_HUB_OFFLINE"):
        WeightsFinder().find(METRICS["clipiqa"])


def test_a_download_is_tried_once_for_each_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    tried: list[str] = []

    def fail(address: str, target: Path, *_: object) -> None:
        tried.append(target.name)
        raise DownloadError("no route")

    monkeypatch.setattr(weights, "download", fail)
    finder = WeightsFinder()
    for key in ("niqe", "musiq", "fid", "clipiqa"):
        with pytest.raises(MetricError, match=r"cannot be downloaded .*no route.*--metric-weights"):
            finder.find(METRICS[key])
    assert tried == ["niqe_modelparameters.mat", "RN50.pt"]


def test_a_download_lands_where_pyiqa_looks(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    (tmp_path / "there.mat").write_bytes(b"parameters")
    metric = METRICS["niqe"]
    file = replace(metric.weights[0], url=(tmp_path / "there.mat").as_uri())
    notes = Notes()
    found = WeightsFinder(reporter=notes).find(replace(metric, weights=(file,)))
    assert found[file] == hub / "pyiqa" / "there.mat"
    assert found[file].read_bytes() == b"parameters"
    assert notes.texts == ["downloading there.mat from "]


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "musiq_koniq_ckpt-e95806b9.pth").write_bytes(b"half")
    with pytest.raises(MetricError, match="damaged: its SHA-256 does not begin with e95806b9"):
        WeightsFinder(tmp_path).find(METRICS["musiq"])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="no such folder; --metric-weights"):
        WeightsFinder(tmp_path / "nowhere")
