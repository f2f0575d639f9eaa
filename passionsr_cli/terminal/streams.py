"""Images through pipes: `-` as input is standard input, as output standard output."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from passionsr_cli.config import UpscaleSettings
from passionsr_cli.errors import ConfigError, ImageError, OutputError
from passionsr_cli.imaging.samples import is_sample
from passionsr_cli.system.files import temporary_folder, temporary_space
from passionsr_cli.system.text import stand_ins
from passionsr_cli.terminal.console import output
from passionsr_cli.upscaling.planning import is_several

STREAM = "-"
# How files of formats begin.
MARKS = {
    b"\xff\xd8\xff": "jpg",
    b"WEBP": "webp",
    b"ftypavif": "avif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
}


def uses_streams(inputs: Sequence[str], output_path: Path | None) -> bool:
    """Tell whether an input or the output is a pipe."""
    return STREAM in inputs or str(output_path) == STREAM


@contextmanager
def streamed(
    inputs: list[str], settings: UpscaleSettings, as_json: bool
) -> Iterator[tuple[list[str], UpscaleSettings]]:
    """Inputs and settings in which files of our own stand for the pipes.

    The result goes to standard output at the end, whole, and all that is told to standard error.
    Raises `ConfigError` for several images and for terminals, `ImageError` for an empty or closed
    input, `OutputError` for a closed output.
    """
    to_stdout = settings.output is None or str(settings.output) == STREAM
    _check(inputs, to_stdout, as_json)
    with temporary_space():
        folder = temporary_folder()
    with folder as name:
        place = Path(name) / "stdin"
        _tell_as(place, "standard input")
        if STREAM in inputs:
            with temporary_space():
                inputs = [str(_read(place))]
        if not to_stdout:
            yield inputs, settings
            return
        result = place.with_name(f"result.{_suffix(settings, Path(inputs[0]))}")
        _tell_as(result, "standard output")
        output.stderr = True
        try:
            yield inputs, settings.model_copy(update={"output": result})
        finally:
            output.stderr = False
        _write(result)


def _tell_as(path: Path, name: str) -> None:
    """Have a person told of a pipe, not of the file that stands for it, also in JSON."""
    stand_ins.update(dict.fromkeys((str(path), json.dumps(str(path))[1:-1]), name))


def _check(inputs: list[str], to_stdout: bool, as_json: bool) -> None:
    if is_several(inputs):
        raise ConfigError("a pipe holds one image; give one input")
    # Streams that were closed from the beginning are None; console gave the output a substitute.
    if STREAM in inputs and sys.stdin is None:
        raise ImageError("standard input is closed; expected an image")
    if to_stdout and sys.__stdout__ is None:
        raise OutputError("standard output is closed; add > result.png, or --output FILE")
    if STREAM in inputs and sys.stdin.isatty():
        raise ConfigError("'-' reads an image from a pipe: passionsr upscale - < photo.jpg")
    if to_stdout and as_json:
        raise ConfigError("--json and the image both go to standard output; give --output FILE")
    if to_stdout and sys.stdout.isatty():
        raise ConfigError("the image goes to standard output; add > result.png, or --output FILE")


def _suffix(settings: UpscaleSettings, source: Path) -> str:
    """A pipe has no name that says its format."""
    if settings.format != "same" or is_sample(source):
        return "png" if settings.format in (None, "same") else str(settings.format)
    with source.open("rb") as file:
        beginning = file.read(16)
    return next((suffix for mark, suffix in MARKS.items() if mark in beginning), "png")


def _read(path: Path) -> Path:
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if path.stat().st_size == 0:
        raise ImageError("standard input is empty; expected an image")
    return path


def _write(result: Path) -> None:
    try:
        with result.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from None
