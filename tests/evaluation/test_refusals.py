"""What cannot be evaluated, and what is left out of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluating import NAMES, evaluate
from PIL import Image

from passionsr_cli.errors import (
    ConfigError,
    DataError,
    DeviceError,
    ImageError,
    MetricError,
    OutputError,
)
from passionsr_cli.inference import open as opening
from passionsr_cli.metrics import catalogue
from passionsr_cli.metrics.catalogue import Metric, metrics_of


def test_sizes_that_differ_are_said_before_any_work(
    data: Path, tmp_path: Path, counting: Counter[str]
) -> None:
    finished = tmp_path / "mine"
    finished.mkdir()
    for name in NAMES:
        Image.new("RGB", (64, 64)).save(finished / f"{name}.png")
    with pytest.raises(DataError, match=r"mine/a.png gives 64×64 px, .*test_HR/a.png has 48×48"):
        evaluate(data, tmp_path / "out", images=[finished], baseline=["bicubic"])
    Image.new("RGB", (8, 12)).save(data / "test_LR" / "b.png")
    with pytest.raises(DataError, match=r"test_LR/b.png gives 32×48 px, .*test_HR/b.png has 56×56"):
        evaluate(data, tmp_path / "out")
    assert not counting
    assert not (tmp_path / "out").exists()


def test_images_too_small_for_a_metric_are_said_before_any_work(
    data: Path, tmp_path: Path, counting: Counter[str]
) -> None:
    for part, side in (("test_HR", 8), ("test_LR", 2)):
        Image.new("RGB", (side, side)).save(data / part / "b.png")
    with pytest.raises(MetricError, match=r"SSIM needs 11×11 px, .*test_HR/b.png has 8×8"):
        evaluate(data, tmp_path / "out", baseline=["bicubic"])
    assert not counting
    assert not (tmp_path / "out").exists()
    assert evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["psnr"]).n == 3


def test_a_finished_image_that_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    evaluate(data, tmp_path / "out", baseline=["bicubic"])
    folder = tmp_path / "out" / "images" / "bicubic"
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"holds no result of .*test_LR/b.png; .* b or b_x4"):
        evaluate(data, tmp_path / "other", images=[folder])
    assert evaluate(data, tmp_path / "other", images=[folder], limit=1).n == 1


def test_an_image_that_cannot_be_read_is_named(data: Path, tmp_path: Path) -> None:
    path = data / "test_HR" / "b.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"test_HR/b.png"):
        evaluate(data, tmp_path / "out", baseline=["bicubic"])
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"test_HR/b.png: not an image file"):
        evaluate(data, tmp_path / "out", baseline=["bicubic"])


@pytest.mark.parametrize("name", ["report.html", "results.json", "results.csv"])
def test_files_of_others_in_the_folder_are_not_replaced(
    data: Path, tmp_path: Path, counting: Counter[str], name: str
) -> None:
    (tmp_path / name).write_text("notes")
    with pytest.raises(OutputError, match=rf"{name}: is there already, and passionsr did not"):
        evaluate(data, tmp_path, baseline=["bicubic"])
    assert (tmp_path / name).read_text() == "notes"
    assert not counting


def test_no_number_is_an_error_that_names_the_image(
    data: Path, tmp_path: Path, niqe_folder: Path
) -> None:
    for part, side in (("test_HR", 96), ("test_LR", 24)):
        Image.new("RGB", (side, side)).save(data / part / "a.png")
    with pytest.raises(MetricError, match=r"images/bicubic/a.png: NIQE"):
        evaluate(
            data,
            tmp_path / "out",
            baseline=["bicubic"],
            metrics=["psnr", "niqe"],
            metric_weights=niqe_folder,
            limit=1,
        )
    assert not (tmp_path / "out" / "results.json").exists()


def test_missing_weights_leave_the_other_metrics(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    found = evaluate(data, tmp_path / "out", baseline=["bicubic"], metrics=["psnr", "lpips"])
    (row,) = found.rows
    assert set(row.metrics) == {"psnr"}
    assert "LPIPS_v0.1_alex-df73285e.pth is not on this machine" in row.missing["lpips"]
    with pytest.raises(MetricError, match="lpips cannot be computed"):
        evaluate(data, tmp_path / "strict", metrics=["psnr", "lpips"], strict=True)
    with pytest.raises(MetricError, match="lpips cannot be computed"):
        evaluate(data, tmp_path / "none", metrics=["lpips"])


def test_an_optional_metric_stands_in_where_weights_are_missing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PSNR stands in for a metric that cannot be here; nobody asked for it by name."""
    psnr, _, lpips = metrics_of("osediff", ["psnr", "ssim", "lpips"])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def columns(stand_in: Metric, **changes: Any) -> tuple[list[str], str]:
        protocol = (replace(lpips, stand_in=stand_in),)
        monkeypatch.setitem(catalogue.PROTOCOLS, "osediff", protocol)
        found = evaluate(data, tmp_path / "out", baseline=["bicubic"], **changes)
        return [key for key, _, _ in found.columns], found.rows[0].missing.get("lpips", "")

    keys, reason = columns(psnr, metrics=None)
    assert keys == ["lpips", "psnr"]
    assert reason.endswith("PSNR stands in")
    assert columns(psnr, metrics=["psnr"]) == (["psnr"], "")
    lack = replace(lpips, key="other", title="Other")
    with pytest.raises(MetricError, match="Other could stand in, but LPIPS_v0"):
        columns(lack, metrics=None)


def test_two_rows_of_one_name_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two rows would be called 'test_HR'"):
        evaluate(data, tmp_path / "out", images=[data / "test_HR"] * 2)


def test_without_a_dial_there_is_nothing_to_set(
    data: Path, tiny_folder: Path, tmp_path: Path, counting: Counter[str]
) -> None:
    with pytest.raises(ConfigError, match="what is compared has no dial for realism; models that"):
        evaluate(data, tmp_path / "out", model=[str(tiny_folder)], realism=[0.5])
    assert not counting
    assert not (tmp_path / "out").exists()


def test_without_nncf_there_is_one_clear_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(opening, "version", none)
    with pytest.raises(DeviceError, match=r"needs NNCF.*: pip install nncf"):
        evaluate(data, tmp_path / "out", baseline=["nncf"])
