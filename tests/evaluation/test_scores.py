from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from passionsr_cli.cli.app import app
from passionsr_cli.errors import ConfigError, DataError, MetricError
from passionsr_cli.evaluation.scores import score


def _image(path: Path, level: int = 100, size: tuple[int, int] = (48, 40)) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (level,) * 3).save(path)
    return path


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments), "--metrics", "psnr"])


def _grey_psnr(difference: int) -> float:
    """On the Y channel of BT.601, whose white is 219 levels above its black."""
    return float(20 * np.log10(255 / (difference * 219 / 255)))


def test_one_pair_is_one_line_of_numbers(tmp_path: Path) -> None:
    done = _run(_image(tmp_path / "sr.png", 110), _image(tmp_path / "hr.png"))
    assert done.exit_code == 0, done.output
    name, key, value = done.stdout.split()
    assert (name, key) == (str(tmp_path / "sr.png"), "psnr")
    assert float(value) == pytest.approx(_grey_psnr(10), abs=0.01)


def test_folders_are_paired_by_names_and_averaged(tmp_path: Path) -> None:
    for name, level in (("a_x4.png", 110), ("b.jpg", 120)):
        _image(tmp_path / "sr" / name, level)
    for name in "abc":
        _image(tmp_path / "hr" / f"{name}.png")
    done = _run(tmp_path / "sr", tmp_path / "hr", "--json")
    found = json.loads(done.stdout)
    assert [Path(each["image"]).name for each in found["images"]] == ["a_x4.png", "b.jpg"]
    first, second = (each["psnr"] for each in found["images"])
    assert first == pytest.approx(_grey_psnr(10), abs=0.01)
    assert second == pytest.approx(_grey_psnr(20), abs=0.01)
    assert found["means"]["psnr"] == pytest.approx((first + second) / 2)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one, other = _image(tmp_path / "a.png"), _image(tmp_path / "b.png", size=(24, 40))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is 48×40 px, its photograph .* 24×40"):
        score(one, other, ["psnr"])
    with pytest.raises(DataError, match="give two images, or two folders"):
        score(one, tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        score(tmp_path / "nobody.png", one)
    with pytest.raises(DataError, match="holds no image of"):
        score(tmp_path / "empty", tmp_path)
    _image(tmp_path / "a.bmp", 30)
    with pytest.raises(DataError, match=r"a\.bmp and .*a\.png are the same image twice"):
        score(tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="fid is of a whole data set"):
        score(one, one, ["fid"])
    small = _image(tmp_path / "small.png", size=(40, 10))
    with pytest.raises(MetricError, match=r"SSIM needs 11×11 px, .*small\.png has 40×10; leave it"):
        score(small, small)
    assert score(small, small, ["psnr"])
