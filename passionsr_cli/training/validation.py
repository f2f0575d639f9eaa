"""How good the model is so far, on photographs it never learned from."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from passionsr_cli.data.photographs import CropBatches
from passionsr_cli.training.losses import as_model_input


@dataclass(frozen=True)
class Validation:
    """Mean PSNR (RGB, dB) of the averaged weights, and of bicubic, at one moment."""

    stage: str
    step: int
    minutes: float
    psnr: float
    bicubic_psnr: float


@torch.no_grad()
def mean_psnr(
    model: nn.Module, photographs: CropBatches, accelerator: Accelerator
) -> tuple[float, float]:
    """PSNR of the model and of bicubic, over one crop of each photograph."""
    ours, plain = [], []
    for index in range(len(photographs.photographs)):
        batch = photographs[index]
        hr, lr = batch["hr"].to(accelerator.device), batch["lr"].to(accelerator.device)
        upscaled = as_model_input(lr, hr)
        with accelerator.autocast():
            restored = model(upscaled)
        ours.append(_psnr(restored.float(), hr))
        plain.append(_psnr(upscaled, hr))
    return sum(ours) / len(ours), sum(plain) / len(plain)


def _psnr(image: Tensor, reference: Tensor) -> float:
    return float(-10 * F.mse_loss(image.clamp(0, 1), reference).log10())


def append_row(path: Path, scores: Validation) -> None:
    """Add one row to the CSV file of the training's curve."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(vars(scores)))
        if new:
            writer.writeheader()
        writer.writerow(
            {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(scores).items()}
        )


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows written so far, none if validation was not asked for."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
