"""The embedded model's scores on RealSR and its speed, against the bars it must reach.

Needs the 100 StableSR crops of the RealSR test set (`test_LR`, `test_HR`) and pyiqa's NIQE
parameters, which cannot be part of this repository:

    PASSIONSR_REALSR=DIR PASSIONSR_NIQE=niqe_modelparameters.mat pytest -s tests/quality

Protocol: RGB PNGs as `passionsr upscale` writes them, PSNR and SSIM on Y, no border crop.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli import api
from passionsr_cli.config import UpscaleSettings

DATA, NIQE = os.environ.get("PASSIONSR_REALSR"), os.environ.get("PASSIONSR_NIQE")
needs_data = pytest.mark.skipif(
    not (DATA and NIQE), reason="PASSIONSR_REALSR and PASSIONSR_NIQE are not set"
)


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def _scores(results: dict[str, torch.Tensor], references: Path) -> dict[str, float]:
    import pyiqa

    luma = {"test_y_channel": True, "color_space": "ycbcr"}
    metrics = {
        "psnr": pyiqa.create_metric("psnr", **luma),
        "ssim": pyiqa.create_metric("ssim", **luma),
    }
    niqe = pyiqa.create_metric("niqe", pretrained_model_path=NIQE)
    sums = dict.fromkeys((*metrics, "niqe"), 0.0)
    for name, result in results.items():
        reference = _tensor(Image.open(references / name))
        for key, metric in metrics.items():
            sums[key] += float(metric(result, reference))
        sums["niqe"] += float(niqe(result))
    return {key: value / len(results) for key, value in sums.items()}


@needs_data
def test_scores_on_realsr(tmp_path: Path) -> None:
    folder = Path(str(DATA))
    for done in api.upscale(
        [str(folder / "test_LR")], UpscaleSettings(output=tmp_path, color_fix="none")
    ):
        assert isinstance(done, api.Done), done
    names = sorted(path.name for path in (folder / "test_LR").glob("*.png"))
    ours = {name: _tensor(Image.open(tmp_path / f"{Path(name).stem}_x4.png")) for name in names}
    plain = {}
    for name in names:
        lr = Image.open(folder / "test_LR" / name).convert("RGB")
        size = (lr.width * 4, lr.height * 4)
        plain[name] = _tensor(lr.resize(size, Image.Resampling.BICUBIC))
    bicubic, mini = (_scores(results, folder / "test_HR") for results in (plain, ours))
    print(f"\n{len(names)} images\nbicubic {bicubic}\nmini    {mini}")
    assert len(names) == 100
    # The protocol itself, checked on bicubic.
    assert bicubic["psnr"] == pytest.approx(27.113, abs=0.0005)
    assert bicubic["ssim"] == pytest.approx(0.7555, abs=0.0005)
    assert bicubic["niqe"] == pytest.approx(8.994, abs=0.0005)
    assert mini["psnr"] >= 27.25
    assert mini["ssim"] >= 0.765
    assert mini["niqe"] <= 7.5


@needs_data
def test_speed_on_two_cores() -> None:
    """128×128 to 512×512, compute alone, on two threads."""
    lr = _tensor(Image.open(next(Path(str(DATA)).glob("test_LR/*.png"))))[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        upscaler = api.open_upscaler(UpscaleSettings(device="cpu"))
        seconds = []
        for _ in range(7):
            started = time.perf_counter()
            upscaler.upscale(lr)
            seconds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    median = sorted(seconds)[len(seconds) // 2]
    print(f"\n{median:.3f} s per image in {upscaler.executor.precision}")
    assert median <= 0.4
