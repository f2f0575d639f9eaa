"""Plan of the images to upscale, and where each result goes, decided before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape, glob, has_magic
from itertools import islice

# Unlike those of `Path`, these take names that are too long, and an empty one is no folder.
from os.path import abspath, exists, isdir
from pathlib import Path

from passionsr_cli.errors import ConfigError, ImageError, OutputError, PassionSRError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.encoding import OUTPUT_FORMATS, check_output
from passionsr_cli.imaging.files import IMAGE_SUFFIXES, is_image
from passionsr_cli.system.text import nearest

# Other suffixes of formats that are written.
SIMILAR = {"jpe": "jpg", "jfif": "jpg", "heif": "heic"}
# Which is no image to upscale, with a number or without.
SHEET_NAME, SHEETS = "contact-sheet.png", re.compile(r"contact-sheet(-\d+)?\.png$")
# Of a name that the shell took apart.
MOST_WORDS = 8
# Names in a folder that a mistyped one is compared with, and how alike the nearest must be.
MOST_NAMES, ALIKE = 2000, 0.7
# What systems and archives leave in folders; hidden names are left out anyway.
LITTER = ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found")


@dataclass(frozen=True)
class Job:
    """One image to read and where its result goes."""

    source: str
    output: Path


@dataclass(frozen=True)
class Present:
    """An image whose result is there already and wanted as it is."""

    source: str
    output: Path


@dataclass(frozen=True)
class Refused:
    """An input that cannot be worked on, and why."""

    source: str
    error: PassionSRError


Planned = Job | Present | Refused


@dataclass(frozen=True)
class Naming:
    """Names of results, and how they are found again.

    `template` may hold {stem} and {ext}, the input's name without and its suffix without the dot;
    without the suffix of a format in it, results are of `format`. That may be 'same', as '.{ext}'
    in the template: the input's own, or PNG where that cannot be written. `keep` tells of a source
    and its result that exists whether it is wanted as it is; `overwrite` replaces all others.
    `source_of` tells of an image what an earlier run made it from.
    """

    template: str = "{stem}_x4"
    format: str = "png"
    recursive: bool = True
    overwrite: bool = False
    keep: Callable[[str, Path], bool] = lambda source, output: False
    source_of: Callable[[Path], str | None] = lambda image: None

    def result(self, name: str) -> str:
        """The result's file name of an input's."""
        stem, ext = Path(name).stem, Path(name).suffix.removeprefix(".")
        own = ext if f".{ext}".lower() in OUTPUT_FORMATS else SIMILAR.get(ext.lower(), "png")
        template = re.sub(r"\.\{ext\}$", f".{own}", self.template)
        filled = template.replace("{stem}", stem).replace("{ext}", ext)
        if Path(template).suffix.lower() in OUTPUT_FORMATS:
            return filled
        return f"{filled}.{own if self.format == 'same' else self.format}"


@dataclass(frozen=True)
class _Found:
    """An image and the folder that its place in the output tree is counted from."""

    source: str
    base: Path


def plan(inputs: Sequence[str], output: Path | None, naming: Naming) -> list[Planned]:
    """A job, what is there already, or a reason against it, for each image that the inputs name,
    in their order and the same for the same files.

    `inputs` are files, folders, patterns such as 'in/**/*.jpg', and `sample:NAME`. `output` is a
    file for one input, a folder for several, for a folder, or if it has no suffix; below it the
    tree of an input folder is mirrored. None writes beside each input (samples: in the working
    folder).
    """
    _check_quotes(inputs)
    _check_output_named(inputs)
    several = is_several(inputs)
    to_file = output is not None and not several and output.suffix != "" and not isdir(output)
    if to_file and output is not None:
        check_output(output)
    if several and output is not None and not isdir(output):
        if exists(output):
            raise OutputError(f"{output}: a file, but several results need a folder")
        if output.suffix.lower() in OUTPUT_FORMATS:
            folder = output.with_suffix("")
            raise ConfigError(
                f"{output} is the name of one image, but there are several; give a folder such as "
                f"--output {folder}"
            )
    planned: list[Planned] = []
    taken: dict[Path, str] = {}
    for found in (image for given in inputs for image in _images_of(given, output, naming)):
        if isinstance(found, Refused):
            planned.append(found)
            continue
        target = output if to_file and output is not None else _target(found, output, naming)
        before = taken.get(target.absolute())
        if before is not None and abspath(before) == abspath(found.source):
            continue  # the same image, named twice
        planned.append(_decide(found.source, target, naming, taken))
        taken.setdefault(target.absolute(), found.source)
    return planned


def _check_quotes(inputs: Sequence[str]) -> None:
    """Refuse the parts of a name with spaces, which the shell took apart."""
    for missing in (place for place, given in enumerate(inputs) if not exists(given)):
        for first in range(max(0, missing - MOST_WORDS), missing + 1):
            for last in range(missing + 1, missing + MOST_WORDS):
                whole = " ".join(inputs[first:last])
                if last - first > 1 and exists(whole):
                    raise ConfigError(f"a name with spaces needs quotes: '{whole}'")


def _check_output_named(inputs: Sequence[str]) -> None:
    """Refuse 'in.jpg out.png', which other programs take as input and output."""
    last = inputs[-1]
    if len(inputs) != 2 or not exists(inputs[0]) or exists(last) or _is_pattern(last):
        return
    if Path(last).suffix.lower() in OUTPUT_FORMATS:
        raise ConfigError(f"{last}: no such file; if it is to be the result: --output {last}")


def is_several(inputs: Sequence[str]) -> bool:
    """Tell whether inputs may name more than one image."""
    return len(inputs) > 1 or any(isdir(given) or _is_pattern(given) for given in inputs)


def _is_pattern(given: str) -> bool:
    return not samples.is_sample(given) and has_magic(given) and not os.path.lexists(given)


def _target(found: _Found, folder: Path | None, naming: Naming) -> Path:
    if samples.is_sample(found.source):
        return (folder or Path()) / naming.result(found.source.removeprefix(samples.PREFIX))
    path = Path(found.source)
    place = path.parent if folder is None else folder / path.parent.relative_to(found.base)
    return place / naming.result(path.name)


def _images_of(given: str, output: Path | None, naming: Naming) -> Iterator[_Found | Refused]:
    """The images an input names. Among many, results of earlier runs are left alone."""
    path = Path(given)
    if _is_pattern(given):
        base, rest = _split(given)
        try:
            found = sorted(glob(os.path.join(escape(str(base)), rest), recursive=True))
        except RecursionError:
            yield Refused(given, ImageError(f"{given[:40]}…: a pattern of too many parts"))
            return
        matches = [match for match in map(Path, found) if is_image(match)]
        below = _below(base, output)
        folders = {match.parent for match in matches}
        own = {each for each in folders if below in (real := each.resolve(), *real.parents)}
        images: list[_Found | Refused] = [
            _Found(str(match), base) for match in matches if match.parent not in own
        ]
        nothing = "no image matches"
    elif isdir(given) and not samples.is_sample(given):
        images = list(_tree(path, output, naming.recursive))
        nothing = "no images in this folder"
    else:
        yield _Found(given, path.parent)
        return
    sources = [Path(image.source) for image in images if isinstance(image, _Found)]
    # A result may have its source's own name, in another folder.
    results = {
        result
        for source in sources
        if (result := source.with_name(naming.result(source.name)).with_suffix(""))
        != source.with_suffix("")
    }
    there = {abspath(source) for source in sources}
    fresh = [
        image
        for image in images
        if (path := Path(image.source)).with_suffix("") not in results
        and naming.source_of(path) not in there
    ]
    if not fresh:
        known = ", ".join(IMAGE_SUFFIXES)
        fresh = [Refused(given, ImageError(f"{given}: {nothing} ({known})"))]
    yield from fresh


def _split(pattern: str) -> tuple[Path, str]:
    """The folder that a pattern begins with, and the rest; a folder that exists is no pattern,
    whatever brackets its name has."""
    parts = Path(pattern).parts
    fixed = 0
    while fixed < len(parts) - 1 and (
        not has_magic(parts[fixed]) or isdir(Path(*parts[: fixed + 1]))
    ):
        fixed += 1
    return Path(*parts[:fixed]), str(Path(*parts[fixed:]))


def _tree(folder: Path, output: Path | None, recursive: bool) -> Iterator[_Found | Refused]:
    """The images of a folder and, below it, of others, but not those in the output's folder.

    Links to folders are not followed: a loop would have no end.
    """
    unreadable: list[OSError] = []
    excluded = _below(folder, output)
    for here, below, names in os.walk(folder, onerror=unreadable.append):
        place = Path(here)
        wanted = [] if not recursive else sorted(below)
        below[:] = [
            name
            for name in wanted
            if not name.startswith(".")
            and name not in LITTER
            and (place / name).resolve() != excluded
        ]
        for name in sorted(names):
            if is_image(place / name) and not SHEETS.search(name):
                yield _Found(str(place / name), folder)
    for error in unreadable:
        reason = ImageError(f"{error.filename}: cannot be read ({error.strerror})")
        yield Refused(str(error.filename), reason)


def _below(folder: Path, output: Path | None) -> Path | None:
    """The folder of results, without links, if it lies below one of images."""
    real = None if output is None else output.resolve()
    return real if real and folder.resolve() in real.parents else None


def _absent(source: str) -> str:
    """Why there is no such input."""
    if "://" in source:
        return "an address, not a file; download it, then upscale the file"
    path = Path(source)
    near = [f"{samples.PREFIX}{source}"] if source in samples.NAMES else []
    if not near and isdir(path.parent):
        with suppress(OSError), os.scandir(path.parent) as found:
            names = [each.name for each in islice(found, MOST_NAMES)]
            near = [str(path.parent / name) for name in nearest(path.name, names, ALIKE)]
    return f"no such file; did you mean '{near[0]}'?" if near else "no such file"


def _decide(source: str, target: Path, naming: Naming, taken: dict[Path, str]) -> Planned:
    if samples.is_sample(source):
        try:
            samples.check(source)
        except ImageError as error:
            return Refused(source, error)
    elif not exists(source):
        return Refused(source, ImageError(f"{source or 'an empty name'}: {_absent(source)}"))
    elif exists(target) and target.samefile(source):
        return Refused(source, OutputError(f"{target}: the result would replace its own input"))
    if target.absolute() in taken:
        other = taken[target.absolute()]
        message = (
            f"{source}: its result {target} is already that of {other}; "
            "--name '{stem}_{ext}' tells them apart"
        )
        return Refused(source, OutputError(message))
    if not exists(target):
        return Job(source, target)
    if naming.keep(source, target):
        return Present(source, target)
    if naming.overwrite:
        return Job(source, target)
    message = f"{target}: exists already; use --overwrite, --skip-existing or another --output"
    return Refused(source, OutputError(message))
