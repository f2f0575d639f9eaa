"""The pictures of a report: the images that the rows differ on most, cut where they differ."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from passionsr_cli.data.pairs import Pair
from passionsr_cli.evaluation.generate import FACTOR, read_lr, read_reference
from passionsr_cli.evaluation.results import ImageResult, Results
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.pixels.arrays import Array, rounded_levels

MOST_PICTURES = 8
SIDE_PX = 384
# Base64 takes a third more; the page should stay below 15 MB.
BUDGET_BYTES = 10_000_000


@dataclass(frozen=True)
class Picture:
    """A place of one image as it is in each version: (name, caption, data URL)."""

    name: str
    width: int
    height: int
    versions: tuple[tuple[str, str, str], ...]

    @property
    def size_bytes(self) -> int:
        return sum(len(url) for _, _, url in self.versions)


def pictures(
    results: Results, pairs: Sequence[Pair], files: dict[str, dict[str, Path]]
) -> list[Picture]:
    """Pictures of the most different images, as many as the page has room for.

    `files` are the image files by row and name. Versions are the input, the photograph, and the
    rows in their order; all are lossless, so that single pixels can be looked at.
    """
    by_name = {pair.name: pair for pair in pairs}
    made: list[Picture] = []
    taken = 0
    for name in most_different(results)[:MOST_PICTURES]:
        picture = _picture(name, by_name[name], results, files)
        taken += picture.size_bytes
        if made and taken > BUDGET_BYTES * 4 / 3:
            break
        made.append(picture)
    return made


def most_different(results: Results) -> list[str]:
    """Names of the images, those first whose scores differ most between the rows.

    Differences are of the first metric that has a number for each image. Baselines, which differ
    from any model everywhere, count only where there are fewer than two other rows.
    """
    others = [row for row in results.rows if row.kind != "baseline"]
    rows = others if len(others) > 1 else results.rows
    first = results.rows[0].images
    metric = next((key for key, _, _ in results.columns if key in first[0].scores), None)
    if metric is None:
        return [image.name for image in first]

    def spread(number: int) -> float:
        scores = [row.images[number].scores[metric] for row in rows]
        return max(scores) - min(scores)

    order = sorted(range(len(first)), key=spread, reverse=True)
    return [first[number].name for number in order]


def _picture(name: str, pair: Pair, results: Results, files: dict[str, dict[str, Path]]) -> Picture:
    reference = read_reference(pair.hr)
    images = {row.name: read_picture(files[row.name][name]).rgb for row in results.rows}
    top, left = _place(list(images.values()), reference)
    height, width = (min(SIDE_PX, side) for side in reference.shape[1:])
    lr = read_lr(pair.lr)
    versions = [
        ("input", "low resolution", _url(lr, top, left, height, width, FACTOR)),
        ("photograph", "high resolution", _url(reference, top, left, height, width)),
    ]
    for row in results.rows:
        scores = next(image for image in row.images if image.name == name)
        url = _url(images[row.name], top, left, height, width)
        versions.append((row.name, _caption(scores, results), url))
    return Picture(name, width, height, tuple(versions))


def _place(images: Sequence[Array], reference: Array) -> tuple[int, int]:
    """Top and left of the square in which the images differ most, from each other or else from
    the photograph; multiples of the factor."""
    compared = [*images] if len(images) > 1 else [*images, reference]
    stacked = torch.from_numpy(np.stack(compared))
    spread = (stacked.amax(0) - stacked.amin(0)).mean(0)
    height, width = (min(SIDE_PX, side) for side in spread.shape)
    coarse = F.avg_pool2d(spread[None, None], FACTOR)
    window = (height // FACTOR, width // FACTOR)
    means = F.avg_pool2d(coarse, window, stride=1)[0, 0]
    best = int(means.argmax())
    return best // means.shape[1] * FACTOR, best % means.shape[1] * FACTOR


def _caption(image: ImageResult, results: Results) -> str:
    titles = {key: title for key, title, _ in results.columns}
    return ", ".join(f"{titles[key]} {value:.4g}" for key, value in image.scores.items())


def _url(image: Array, top: int, left: int, height: int, width: int, shrunk: int = 1) -> str:
    """A rectangle of an image, given in pixels of one that is `shrunk` times as large."""
    rows = slice(top // shrunk, (top + height) // shrunk)
    part = image[:, rows, left // shrunk : (left + width) // shrunk]
    pixels = rounded_levels(part).transpose(1, 2, 0)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
