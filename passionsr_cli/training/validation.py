"""Validation during training, on photographs that are never learned from."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from passionsr_cli.data.photographs import CropBatches
from passionsr_cli.metrics.psnr import psnr
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.training.ends import Ends
from passionsr_cli.training.losses import as_model_input


@dataclass(frozen=True)
class Validation:
    """Mean PSNR (RGB, dB) of the averaged weights at one moment: of the faithful end, of the
    natural one once it learns, and of bicubic."""

    stage: str
    step: int
    minutes: float
    psnr: float
    natural_psnr: float | None
    bicubic_psnr: float

    def __str__(self) -> str:
        natural = "" if self.natural_psnr is None else f", natural {self.natural_psnr:.2f} dB"
        return (
            f"{self.stage} {self.step}: {self.psnr:.2f} dB on photographs not trained on{natural} "
            f"(bicubic {self.bicubic_psnr:.2f} dB), {self.minutes:.0f} min"
        )


@torch.no_grad()
def mean_psnr(
    model: OneStepModel, photographs: CropBatches, accelerator: Accelerator, natural: bool
) -> tuple[float, float | None, float]:
    """PSNR of both ends (the natural one if asked for) and of bicubic, over as many random
    crops as there are photographs."""
    ends = Ends(model)
    scores: list[list[float]] = [[], [], []]
    for index in range(len(photographs.photographs)):
        batch = photographs[index]
        hr, lr = batch["hr"].to(accelerator.device), batch["lr"].to(accelerator.device)
        upscaled = as_model_input(lr, hr)
        with accelerator.autocast():
            faithful, realistic = ends(upscaled, natural)
        for values, image in zip(scores, (faithful, realistic, upscaled), strict=True):
            values += [] if image is None else [psnr(image.float().clamp(0, 1), hr)]
    ours, realism, plain = (sum(values) / max(len(values), 1) for values in scores)
    return ours, realism if natural else None, plain


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


def drop_rows_beyond(path: Path, steps: Mapping[str, int]) -> None:
    """Keep the rows up to these steps of these stages: a resumed run writes all others again."""
    rows = read_rows(path)
    # One that was cut off lacks its last values.
    whole = [row for row in rows if None not in row.values()]
    kept = [row for row in whole if int(row["step"]) <= steps.get(row["stage"], -1)]
    if len(kept) == len(rows):
        return
    if not kept:
        path.unlink()
        return
    with (
        replace_atomically(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows written so far, none if validation was not asked for."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
