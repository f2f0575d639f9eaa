"""Making the images of a candidate, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from passionsr_cli.data.pairs import Pair
from passionsr_cli.evaluation.candidates import Candidate
from passionsr_cli.evaluation.records import Record, RowFolder
from passionsr_cli.evaluation.settings import EvaluationSettings
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import read_picture, write_picture
from passionsr_cli.imaging.picture import Picture
from passionsr_cli.inference.open import open_executor, open_nncf
from passionsr_cli.pixels.arrays import Array, rounded_levels
from passionsr_cli.progress import Reporter
from passionsr_cli.system.files import sha256_of
from passionsr_cli.system.processes import Processes
from passionsr_cli.tiling.upscaler import TiledUpscaler

FACTOR = 4
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
Make = Callable[[Array], Array]


def maker(candidate: Candidate, settings: EvaluationSettings, reporter: Reporter) -> Make:
    """A function from a low-resolution image (3, h, w) to one four times as large, in [0, 1]."""
    if candidate.artifact is None:
        resampling = _FILTERS[candidate.name]
        return lambda lr: _resized(lr, resampling)
    if candidate.of_nncf:
        executor = open_nncf(candidate.artifact, settings.precision, reporter)
    else:
        executor = open_executor(
            candidate.artifact, settings.backend, settings.device, settings.precision, reporter
        )
    upscaler = TiledUpscaler(
        executor, settings.tile, settings.overlap, settings.color_fix, realism=candidate.realism
    )
    return lambda lr: upscaler.upscale(lr).rgb


def _resized(lr: Array, resampling: Image.Resampling) -> Array:
    """By Pillow, on 8 bits per channel: what papers call bicubic in such tables."""
    pixels = rounded_levels(lr).transpose(1, 2, 0)
    size = (pixels.shape[1] * FACTOR, pixels.shape[0] * FACTOR)
    large = np.asarray(Image.fromarray(pixels).resize(size, resampling)).transpose(2, 0, 1)
    return large.astype(np.float32) / np.float32(255)


def read_lr(source: str) -> Array:
    """A low-resolution image (3, h, w) in [0, 1]."""
    return read_picture(source).rgb


def read_reference(source: str) -> Array:
    """A photograph (3, H, W) in [0, 1], of a file or a sample."""
    return samples.high_resolution(source) if samples.is_sample(source) else read_lr(source)


def make_images(
    candidate: Candidate,
    pairs: Sequence[Pair],
    folder: RowFolder,
    settings: EvaluationSettings,
    processes: Processes,
    reporter: Reporter,
) -> None:
    """Make the images of a candidate that are not there yet: PNG, 8 bits per channel."""
    if processes.is_first:
        folder.keep_only(candidate.fingerprint)
    processes.wait()
    todo = [pair for pair in processes.share(pairs) if not _is_made(pair, candidate, folder)]
    task = f"upscaling {candidate.name}"
    reporter.started(task, len(todo))
    # The first process converts and compiles a model, the others find that in the cache.
    if not processes.is_first:
        processes.wait()
    make = _warm(candidate, todo, settings, reporter) if todo else None
    if processes.is_first:
        processes.wait()
    for number, pair in enumerate(todo, 1):
        assert make is not None
        lr = read_lr(pair.lr)
        started = time.perf_counter()
        image = make(lr)
        seconds = time.perf_counter() - started
        path = folder.image(pair.name)
        write_picture(path, Picture(image))
        made = Record(candidate.fingerprint, source_sha256(pair.lr), seconds, sha256_of(path))
        folder.write(pair.name, made)
        reporter.step(task, number)
    processes.wait()


def _is_made(pair: Pair, candidate: Candidate, folder: RowFolder) -> bool:
    """Tell whether its image is there, and still the one that was made."""
    record, path = folder.read(pair.name), folder.image(pair.name)
    made_of = (record.made_by, record.lr_sha256)
    return (
        made_of == (candidate.fingerprint, source_sha256(pair.lr))
        and path.exists()
        and record.image_sha256 == sha256_of(path)
    )


def _warm(
    candidate: Candidate, todo: Sequence[Pair], settings: EvaluationSettings, reporter: Reporter
) -> Make:
    """A maker that has made an image already: the first one also compiles."""
    make = maker(candidate, settings, reporter)
    make(read_lr(todo[0].lr))
    return make


def source_sha256(source: str) -> str:
    """SHA-256 of a file; a sample, which never changes, is its own name."""
    return source if samples.is_sample(source) else sha256_of(Path(source))
