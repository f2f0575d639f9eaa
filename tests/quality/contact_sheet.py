"""A contact sheet: photographs in rows, upscalers in columns, cut at 1:1 so that pixels show.

    PASSIONSR_REALSR=DIR PASSIONSR_REALESRGAN=realesrgan-x4plus.bin \\
        python tests/quality/contact_sheet.py sheet.png
    python tests/quality/contact_sheet.py first.png --small

Columns are bicubic, the model at each setting of its dial, Real-ESRGAN if its weights are given
(see `rivals.py`), and the photograph. `--small` is the sheet of the README's first screen; in one
named .webp or .jpg it takes less room. PASSIONSR_MODEL names another model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import DATA, DEGRADATIONS, RIVAL, dial, enlarged, read, upscaled, upscaler
from PIL import Image, ImageDraw, ImageFont
from rivals import compile_real_esrgan
from torch import Tensor

from passionsr_cli.imaging import samples

SIDE_PX, SMALL_SIDE_PX = 208, 140
GAP_PX, LABEL_PX = 4, 20
INK, PAPER = (30, 30, 30), (255, 255, 255)
Upscale = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Photograph:
    """`source` is a sample or a pair's name; (`left`, `top`) is where the cut begins, in pixels of
    the photograph; `degradation` comes on top of the low-resolution image. `first` are those of the
    small sheet."""

    label: str
    source: str
    left: int
    top: int
    degradation: str = ""
    first: bool = False

    def pair(self) -> tuple[Tensor, Tensor]:
        """(low resolution, photograph), both (3, H, W) in [0, 1]."""
        if samples.is_sample(self.source):
            made = (samples.low_resolution, samples.high_resolution)
            lr, hr = (torch.from_numpy(make(self.source)) for make in made)
        else:
            files = (
                Path(str(DATA)) / side / f"{self.source}.png" for side in ("test_LR", "test_HR")
            )
            lr, hr = map(read, files)
        return (DEGRADATIONS[self.degradation](lr) if self.degradation else lr), hr


PHOTOGRAPHS = (
    Photograph("face", "Nikon_047_LR4", 60, 90, first=True),
    Photograph("face, drawn", "Nikon_046_LR4", 160, 90),
    Photograph("face, small", "sample:astronaut", 150, 20),
    Photograph("lettering", "Canon_004_LR4", 130, 180, first=True),
    Photograph("lettering", "Nikon_035_LR4", 0, 120),
    Photograph("foliage", "Nikon_014_LR4", 200, 120, first=True),
    Photograph("foliage", "Canon_037_LR4", 150, 150),
    Photograph("blossom", "Canon_014_LR4", 200, 200),
    Photograph("building", "Nikon_015_LR4", 150, 180),
    Photograph("city", "Canon_006_LR4", 200, 250),
    Photograph("cloth", "Nikon_048_LR4", 150, 120, first=True),
    Photograph("cloth", "Nikon_021_LR4", 150, 100),
    Photograph("night", "sample:rocket", 250, 150),
    Photograph("fur, noise", "sample:chelsea", 110, 40, "noise 10"),
    Photograph("noise", "sample:astronaut", 150, 20, "noise 10"),
    Photograph("JPEG 40", "sample:motorcycle_left", 250, 150, "JPEG 40"),
)


def columns() -> dict[str, Upscale]:
    """What makes an image of four times the size, by label, from left to right."""
    made: dict[str, Upscale] = {"bicubic": enlarged}
    for realism in dial():
        tiled = upscaler(realism)
        label = "mini" if realism is None else f"mini, realism {realism:g}"
        made[label] = partial(upscaled, tiled)
    if RIVAL:
        made["Real-ESRGAN"] = compile_real_esrgan(Path(RIVAL))
    return made


def _pixels(image: Tensor, photograph: Photograph, side: int) -> Image.Image:
    height, width = image.shape[1:]
    left, top = min(photograph.left, width - side), min(photograph.top, height - side)
    cut = image[:, top : top + side, left : left + side].clamp(0, 1)
    return Image.fromarray((cut * 255).round().permute(1, 2, 0).numpy().astype(np.uint8))


def sheet(
    photographs: tuple[Photograph, ...], upscalers: dict[str, Upscale], side: int
) -> Image.Image:
    """The labelled sheet, a square of `side` pixels for each image."""
    labels = [*upscalers, "photograph"]
    step = side + GAP_PX
    size = (len(labels) * step - GAP_PX + LABEL_PX, len(photographs) * step - GAP_PX + LABEL_PX)
    page = Image.new("RGB", size, PAPER)
    font = ImageFont.load_default(13)
    for number, label in enumerate(labels):
        place = (LABEL_PX + number * step + side // 2, LABEL_PX // 2)
        ImageDraw.Draw(page).text(place, label, INK, font, anchor="mm")
    for number, photograph in enumerate(photographs):
        top = LABEL_PX + number * step
        # Written from below upwards, along the left edge.
        margin = Image.new("RGB", (side, LABEL_PX), PAPER)
        place = (side // 2, LABEL_PX // 2)
        ImageDraw.Draw(margin).text(place, photograph.label, INK, font, anchor="mm")
        page.paste(margin.transpose(Image.Transpose.ROTATE_90), (0, top))
        lr, hr = photograph.pair()
        for place, image in enumerate((*(upscale(lr) for upscale in upscalers.values()), hr)):
            page.paste(_pixels(image, photograph, side), (LABEL_PX + place * step, top))
        print(photograph.label, photograph.source, flush=True)
    return page


def main() -> None:
    arguments = argparse.ArgumentParser(description="Write a contact sheet.")
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--small", action="store_true", help="four rows, smaller squares")
    given = arguments.parse_args()
    chosen = tuple(one for one in PHOTOGRAPHS if one.first or not given.small)
    if DATA is None:
        chosen = tuple(one for one in chosen if samples.is_sample(one.source))
    page = sheet(chosen, columns(), SMALL_SIDE_PX if given.small else SIDE_PX)
    page.save(given.output, optimize=True)
    print(
        given.output, f"{page.width}×{page.height} px, {given.output.stat().st_size / 1e3:.0f} kB"
    )


if __name__ == "__main__":
    main()
