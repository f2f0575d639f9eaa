"""Fidelity of a row's images to those at full precision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from passionsr_cli.evaluation.records import RowFolder
from passionsr_cli.imaging.files import read_picture
from passionsr_cli.metrics.psnr import decibels

# 100 dB, for images that are the same.
SMALLEST_ERROR = 1e-10


def psnr_to_full_precision(row: RowFolder, full: RowFolder, names: Sequence[str]) -> float:
    """Mean PSNR (dB, RGB) of a row's images to the full-precision model's, both of 8 bits.

    Both are scored already: what is found here is kept in the records beside their scores.
    """
    return math.fsum(_psnr(row, full, name) for name in names) / len(names)


def _psnr(row: RowFolder, full: RowFolder, name: str) -> float:
    record = row.read(name)
    key = f"to {full.read(name).image_sha256}"
    if key not in record.scores:
        image, wanted = (read_picture(folder.image(name)).rgb for folder in (row, full))
        error = float(np.square((image - wanted).astype(np.float64)).mean())
        record.scores[key] = decibels(max(error, SMALLEST_ERROR))
        row.write(name, record)
    return record.scores[key]
