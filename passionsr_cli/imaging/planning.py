"""Which images are upscaled, and where each result goes, decided before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from passionsr_cli.errors import ImageError, OutputError, PassionSRError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import IMAGE_SUFFIXES, check_output


@dataclass(frozen=True)
class Job:
    """One image to read and where its result goes."""

    source: str
    output: Path


@dataclass(frozen=True)
class Refused:
    """An input that cannot be worked on, and why."""

    source: str
    error: PassionSRError


def plan(
    inputs: Sequence[str], output: Path | None, suffix: str, overwrite: bool
) -> list[Job | Refused]:
    """A job, or a reason against it, for each image the inputs name, in their order.

    `inputs` are files, folders and `sample:NAME`. `output` is a file for one input, a folder for
    several, for a folder, or if it has no suffix; None writes `NAME{suffix}.png` beside each
    input (samples: in the working folder). Results that exist are refused unless `overwrite`.
    """
    several = len(inputs) > 1 or any(Path(given).is_dir() for given in inputs)
    to_file = output is not None and not several and output.suffix != "" and not output.is_dir()
    if to_file and output is not None:
        check_output(output)
    if several and output is not None and output.exists() and not output.is_dir():
        raise OutputError(f"{output}: a file, but several results need a folder")
    planned: list[Job | Refused] = []
    taken: dict[Path, str] = {}
    for source in (image for given in inputs for image in _images_of(given, suffix)):
        if isinstance(source, Refused):
            planned.append(source)
            continue
        target = output if to_file and output is not None else _target(source, output, suffix)
        error = _obstacle(source, target, overwrite, taken)
        taken.setdefault(target.absolute(), source)
        planned.append(Refused(source, error) if error else Job(source, target))
    return planned


def _target(source: str, folder: Path | None, suffix: str) -> Path:
    if samples.is_sample(source):
        name, beside = source.removeprefix(samples.PREFIX), Path()
    else:
        name, beside = Path(source).stem, Path(source).parent
    return (folder or beside) / f"{name}{suffix}.png"


def _images_of(given: str, suffix: str) -> list[str | Refused]:
    """The images an input names. In a folder, results of earlier runs are left alone."""
    path = Path(given)
    if samples.is_sample(given) or not path.is_dir():
        return [given]
    images = find_images(path)
    stems = {image.stem for image in images}
    results = {f"{stem}{suffix}" for stem in stems}
    fresh = [str(image) for image in images if image.stem not in results]
    if not fresh:
        known = ", ".join(IMAGE_SUFFIXES)
        return [Refused(given, ImageError(f"{given}: no images in this folder ({known})"))]
    return list(fresh)


def find_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; hidden files are left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def _obstacle(
    source: str, target: Path, overwrite: bool, taken: dict[Path, str]
) -> PassionSRError | None:
    if samples.is_sample(source):
        try:
            samples.check(source)
        except ImageError as error:
            return error
    else:
        if not Path(source).exists():
            return ImageError(f"{source}: no such file")
        if target.exists() and target.samefile(source):
            return OutputError(f"{target}: the result would replace its own input")
    if target.absolute() in taken:
        other = taken[target.absolute()]
        return OutputError(f"{source}: its result {target} is already that of {other}")
    if target.exists() and not overwrite:
        return OutputError(f"{target}: exists already; use --overwrite or another --output")
    return None
