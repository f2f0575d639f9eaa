"""What the bars of the embedded model are measured with: which model, which images, PSNR.

PASSIONSR_MODEL names another model, or a folder, to hold against the same bars.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from passionsr_cli import api
from passionsr_cli.config import UpscaleSettings
from passionsr_cli.data.resampling import bicubic
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.models import catalogue
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.tiling.upscaler import TiledUpscaler
from passionsr_cli.upscaling.images import open_upscaler

MODEL = os.environ.get("PASSIONSR_MODEL", EMBEDDED_MODEL)
DATA, NIQE = os.environ.get("PASSIONSR_REALSR"), os.environ.get("PASSIONSR_NIQE")
RIVAL = os.environ.get("PASSIONSR_REALESRGAN")
needs_data = pytest.mark.skipif(
    not (DATA and NIQE), reason="PASSIONSR_REALSR and PASSIONSR_NIQE are not set"
)
needs_rival = pytest.mark.skipif(not RIVAL, reason="PASSIONSR_REALESRGAN is not set")

FACTOR = 4
JPEG_QUALITY, NOISE_SIGMA = 40, 10
# 8-bit pixels change where the root mean square of a change is half a level or more.
HALF_A_LEVEL_DB = 54.15

Scores = dict[str, dict[str, float]]


def dial() -> list[float | None]:
    """Settings to measure at: faithful, the default, natural; one None for a model without."""
    default = catalogue.find(MODEL).description.realism
    return [None] if default is None else list(dict.fromkeys((0.0, default, 1.0)))


def row_at(realism: float | None, name: str = MODEL) -> str:
    """What an evaluation calls a model, or anything else, at a setting of its dial."""
    short = Path(name).name
    return short if realism is None else f"{short}@{realism:g}"


def photographs(step: int = 1) -> list[Path]:
    """Every `step`-th low-resolution file of the 100 pairs."""
    return sorted(Path(str(DATA)).glob("test_LR/*.png"))[::step]


def read(path: str | Path) -> Tensor:
    """(3, H, W) in [0, 1]."""
    return torch.from_numpy(read_picture(path).rgb)


def enlarged(lr: Tensor) -> Tensor:
    """The bicubic upscale of (3, h, w) that a model sees, (3, 4h, 4w) in [0, 1]."""
    height, width = lr.shape[1:]
    return bicubic(lr[None], (height * FACTOR, width * FACTOR))[0].clamp(0, 1)


def psnr(images: Sequence[Tensor], references: Sequence[Tensor]) -> float:
    """RGB PSNR in dB of all pixels of all images together."""
    errors = [(one - other).square().mean() for one, other in zip(images, references, strict=True)]
    return -10 * float(torch.stack(errors).mean().clamp_min(1e-20).log10())


def upscaler(realism: float | None = None, **settings: object) -> TiledUpscaler:
    """The model in float32 without colour fix, unless the settings say otherwise."""
    values = {"model": MODEL, "precision": "fp32", "color_fix": "none", "realism": realism}
    # The embedded model would run as its checkpoint on integers.
    if "checkpoint" not in settings:
        values["checkpoint"] = "none"
    return open_upscaler(UpscaleSettings.model_validate({**values, **settings}))


def upscaled(tiled: TiledUpscaler, lr: Tensor) -> Tensor:
    """The image (3, 4h, 4w) that an upscaler makes of (3, h, w)."""
    return torch.from_numpy(tiled.upscale(lr.numpy()).rgb)


def latents(model: OneStepModel, lr: Tensor, realism: float | None) -> tuple[Tensor, Tensor]:
    """z_L and z_H of one image (3, h, w) whose upscale needs no padding."""
    latent = model.encode(enlarged(lr)[None])
    return latent, model.to_x0(latent, model.predict(latent, realism))


def decoded(model: OneStepModel, latent: Tensor) -> Tensor:
    """The image (3, H, W) in [0, 1] of one z_H."""
    return model.decode(latent)[0].clamp(0, 1)


def evaluated(output: Path, images: Sequence[Path] = ()) -> Scores:
    """Mean PSNR and SSIM on Y, NIQE and Lite1 by row: bicubic, the model at each setting of its
    dial, and folders of finished images."""
    positions = dial()
    values = {
        "dataset": str(DATA),
        "metrics": ["psnr", "ssim", "niqe", "lite1"],
        "metric_weights": Path(str(NIQE)).parent,
        "model": [MODEL],
        "baseline": ["bicubic"],
        "images": list(images),
        "realism": None if positions == [None] else positions,
        "precision": "fp32",
        "color_fix": "none",
        "output": output,
    }
    results = api.evaluate(EvaluationSettings.model_validate(values))
    assert results.n == 100
    found = {row.name: row.metrics for row in results.rows}
    print()
    for name, metrics in found.items():
        print(f"{name:24}", *(f"{key} {value:.4f}" for key, value in metrics.items()))
    return found


def as_jpeg(lr: Tensor) -> Tensor:
    """An image after JPEG at quality 40."""
    pixels = (lr * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255


def with_noise(lr: Tensor) -> Tensor:
    """An image under normal noise of σ = 10 of 255, the same each time, in 8 bits."""
    noise = torch.randn(lr.shape, generator=torch.Generator().manual_seed(0)) * NOISE_SIGMA
    return (lr * 255 + noise).round().clamp(0, 255) / 255


DEGRADATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    f"JPEG {JPEG_QUALITY}": as_jpeg,
    f"noise {NOISE_SIGMA}": with_noise,
}
