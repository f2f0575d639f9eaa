"""Searches a method's settings: fills in the rows of a table that have no results yet.

    PASSIONSR_REALSR=DIR python tests/quality/search_settings.py TABLE [ROWS]

TABLE is one of `tests/quality/searches/`, ROWS how many to fill in, by default all. A row is

    | bits | settings | dB to full precision | dB to photographs | seconds |

with JSON of `method_settings` of the method that the file is named after. `mini` is calibrated on
a few small crops, the rest of the settings being those of `--bits`, and every tenth of RealSR's
100 images is upscaled in float32: PSNR (RGB) to what full precision makes of it, and the
difference to full precision's PSNR to the photographs. Delete results to have them measured again.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from passionsr_cli import api
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.config import CalibrationSettings, UpscaleSettings
from passionsr_cli.errors import FitError
from passionsr_cli.upscaling.images import open_upscaler

CROPS = {"crops": 8, "crop_px": 192}
EVERY = 10


def _read(path: Path) -> torch.Tensor:
    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return -10 * float((one - other).square().mean().log10())


class Judge:
    """Full precision's results, and how far those of checkpoints are from them."""

    def __init__(self, data: Path) -> None:
        self.files = sorted(data.glob("test_LR/*.png"))[::EVERY]
        self.photographs = [_read(data / "test_HR" / file.name) for file in self.files]
        self.full = self._results(UpscaleSettings(precision="fp32", color_fix="none"))
        self.full_psnr = self._mean(self.full, self.photographs)

    def _results(self, settings: UpscaleSettings) -> list[torch.Tensor]:
        upscaler = open_upscaler(settings.model_copy(update={"backend": "torch"}))
        return [torch.from_numpy(upscaler.upscale(_read(file).numpy()).rgb) for file in self.files]

    def _mean(self, ones: list[torch.Tensor], others: list[torch.Tensor]) -> float:
        pairs = zip(ones, others, strict=True)
        return sum(_psnr(one, other) for one, other in pairs) / len(ones)

    def scores(self, method: str, bits: str, settings: str) -> list[str]:
        """The last three cells of a row."""
        with tempfile.TemporaryDirectory() as home:
            os.environ["PASSIONSR_HOME"] = home
            values = {
                **settings_for(bits, [], {}).model_dump(),
                "method": method,
                "method_settings": {method: json.loads(settings)},
                **CROPS,
                "device": "cpu",
            }
            try:
                entry = api.calibrate(CalibrationSettings.model_validate(values))
            except FitError:
                return ["diverged", "", ""]
            checkpoint = UpscaleSettings(checkpoint=entry.name, precision="fp32", color_fix="none")
            found = self._results(checkpoint)
        difference = self._mean(found, self.photographs) - self.full_psnr
        seconds = entry.manifest.seconds
        return [f"{self._mean(found, self.full):.2f}", f"{difference:+.2f}", f"{seconds:.0f}"]


def main(table: Path, rows: int) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    judge = Judge(Path(os.environ["PASSIONSR_REALSR"]))
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) < 5 or not cells[1].startswith("`") or cells[2] or not rows:
            continue
        rows -= 1
        cells[2:5] = judge.scores(table.stem, cells[0], cells[1].strip("`"))
        lines[number] = f"| {' | '.join(cells)} |"
        print(lines[number], flush=True)
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else sys.maxsize)
