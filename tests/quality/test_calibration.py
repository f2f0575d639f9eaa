"""What calibrating the embedded model costs in quality, time and memory, against the bars.

Needs what `test_mini.py` needs:

    PASSIONSR_REALSR=DIR PASSIONSR_NIQE=niqe_modelparameters.mat \
        pytest -s tests/quality/test_calibration.py

Calibrations run as processes of their own, so that time and peak memory are theirs. Checkpoints
are kept under PASSIONSR_CALIBRATIONS if that is set, and used again. It prints one table row a
calibration: PSNR to the full-precision output (RGB, before rounding to 8 bits), then PSNR and SSIM
on Y and NIQE of the PNGs against the photographs, as in `test_mini.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.upscaling.images import open_upscaler

DATA, NIQE = os.environ.get("PASSIONSR_REALSR"), os.environ.get("PASSIONSR_NIQE")
KEPT = os.environ.get("PASSIONSR_CALIBRATIONS")
pytestmark = pytest.mark.skipif(
    not (DATA and NIQE), reason="PASSIONSR_REALSR and PASSIONSR_NIQE are not set"
)

Scores = dict[str, float]
ABLATION = ("maxmin", "lbq", "lbq-let", "lbq-let-dqc")


def _read(path: Path) -> torch.Tensor:
    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _outputs(checkpoint: str | None) -> dict[str, torch.Tensor]:
    """Results of all LR images in float32, without colour fix."""
    settings = UpscaleSettings(checkpoint=checkpoint, precision="fp32", color_fix="none")
    upscaler = open_upscaler(settings)
    files = sorted(Path(str(DATA)).glob("test_LR/*.png"))
    return {
        file.name: torch.from_numpy(upscaler.upscale(_read(file).numpy()).rgb) for file in files
    }


def _scores(results: dict[str, torch.Tensor]) -> Scores:
    import pyiqa

    luma = {"test_y_channel": True, "color_space": "ycbcr"}
    metrics = {name: pyiqa.create_metric(name, **luma) for name in ("psnr", "ssim")}
    niqe = pyiqa.create_metric("niqe", pretrained_model_path=NIQE)
    sums = dict.fromkeys(("psnr", "ssim", "niqe"), 0.0)
    for name, result in results.items():
        image = (result * 255).round().unsqueeze(0) / 255
        reference = _read(Path(str(DATA)) / "test_HR" / name).unsqueeze(0)
        for key, metric in metrics.items():
            sums[key] += float(metric(image, reference))
        sums["niqe"] += float(niqe(image))
    return {key: value / len(results) for key, value in sums.items()}


def _calibrate(home: Path, name: str, arguments: list[str]) -> Scores:
    environment = {**os.environ, "PASSIONSR_HOME": str(home)}
    base = [sys.executable, "-m", "passionsr_cli"]
    if not (home / "checkpoints" / name / "manifest.json").exists():
        command = [*base, "calibrate", "--name", name, "--device", "cpu", *arguments, "--json"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    command = [*base, "checkpoints", "show", name, "--json"]
    shown = subprocess.run(command, env=environment, check=True, capture_output=True)
    manifest = json.loads(shown.stdout)
    return {
        "seconds": manifest["seconds"],
        "gigabytes": manifest["peak_memory_bytes"] / 1e9,
        "share_of_32_bits": manifest["share_of_32_bits"],
    }


class Bench:
    """Full precision once, then any number of calibrations."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.full_outputs = _outputs(None)
        self.full = _scores(self.full_outputs)
        self.row("full precision", {**self.full, "to_full": float("inf"), "seconds": 0})

    def measure(self, name: str, arguments: list[str]) -> Scores:
        made = _calibrate(self.home, name, arguments)
        outputs = _outputs(str(self.home / "checkpoints" / name))
        errors = [
            -10 * float((outputs[key] - full).square().mean().log10())
            for key, full in self.full_outputs.items()
        ]
        scores = {**made, **_scores(outputs), "to_full": sum(errors) / len(errors)}
        self.row(name, scores)
        return scores

    def row(self, name: str, scores: Scores) -> None:
        print(
            f"| {name} | {scores['to_full']:.2f} | {scores['psnr']:.3f} "
            f"({scores['psnr'] - self.full['psnr']:+.3f}) | {scores['ssim']:.4f} "
            f"({scores['ssim'] - self.full['ssim']:+.4f}) | {scores['niqe']:.3f} | "
            f"{scores['seconds']:.0f} | {scores.get('gigabytes', 0):.2f} | "
            f"{scores.get('share_of_32_bits', 1):.3f} |",
            flush=True,
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    print("\n| | dB to full | PSNR | SSIM | NIQE | seconds | GB | of 32 bits |")
    return Bench(Path(KEPT) if KEPT else tmp_path_factory.mktemp("calibrations"))


def test_w8a8(bench: Bench) -> None:
    scores = bench.measure("w8a8", ["--bits", "w8a8"])
    bench.measure("w8a8-maxmin", ["--bits", "w8a8", "--method", "maxmin"])
    assert scores["to_full"] >= 46
    assert abs(scores["psnr"] - bench.full["psnr"]) <= 0.03
    assert abs(scores["ssim"] - bench.full["ssim"]) <= 0.001


def test_w6a6_and_its_ablation(bench: Bench) -> None:
    scores = _ablation(bench, "w6a6")
    whole = scores["lbq-let-dqc"]
    assert whole["to_full"] >= 36
    assert abs(whole["psnr"] - bench.full["psnr"]) <= 0.12
    assert abs(whole["ssim"] - bench.full["ssim"]) <= 0.005
    assert whole["seconds"] <= 600
    assert whole["share_of_32_bits"] <= 0.25


def test_w4a4_and_its_ablation(bench: Bench) -> None:
    scores = _ablation(bench, "w4a4")
    assert scores["lbq-let-dqc"]["to_full"] >= scores["maxmin"]["to_full"] + 5


def _ablation(bench: Bench, bits: str) -> dict[str, Scores]:
    """The rows of the paper's Table 4, in its order of quality."""
    scores = {
        row: bench.measure(f"{bits}-{row}", ["--bits", bits, "--config", f"ablation-{row}"])
        for row in ABLATION
    }
    assert scores["maxmin"]["to_full"] < scores["lbq"]["to_full"] < scores["lbq-let"]["to_full"]
    whole, joint = scores["lbq-let-dqc"], scores["lbq-let"]
    assert whole["to_full"] >= joint["to_full"]
    assert whole["seconds"] < 0.8 * joint["seconds"]
    assert whole["gigabytes"] < joint["gigabytes"]
    return scores
