"""Plan of the images to upscale, and where each result goes, decided before any work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape, glob, has_magic

# Unlike those of `Path`, these take names that are too long, and an empty one is no folder.
from os.path import abspath, exists, isdir, lexists, realpath
from pathlib import Path

from passionsr_cli.errors import ConfigError, ImageError, OutputError, PassionSRError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.encoding import OUTPUT_FORMATS, check_output
from passionsr_cli.imaging.files import IMAGE_SUFFIXES, is_image
from passionsr_cli.upscaling.mistyped import check_output_named, check_quotes, why_absent
from passionsr_cli.upscaling.naming import Naming
from passionsr_cli.upscaling.sheets import is_sheet

# What systems and archives leave in folders; hidden names are left out anyway.
LITTER = ("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found")
# Nothing is put behind it, which would be far from where it was meant to be.
LOST_LINK = "a link to what is not there"
# Folders of no files, where nothing can be put beside anything; and all below /proc.
SYSTEM_FOLDERS = (Path("/dev"), Path("/dev/fd"))


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
class _Found:
    """An image and the folder that its place in the output tree is counted from."""

    source: str
    base: Path


def plan(inputs: Sequence[str], output: Path | None, naming: Naming) -> list[Planned]:
    """A job, what is there already, or a reason against it, for each image that the inputs name,
    in their order and the same for the same files.

    `inputs` are files, folders, patterns such as 'in/**/*.jpg', and `sample:NAME`. `output` is a
    file for one input, a folder for several, for a folder, or if it has no suffix, or one of
    digits, as in '2024.05'; below it the tree of an input folder is mirrored. None writes beside
    each input (samples: in the working folder).
    """
    check_quotes(inputs)
    check_output_named(inputs)
    several = is_several(inputs)
    file = only_result(inputs, output)
    if file is not None:
        check_output(file)
    naming.check()
    if output is not None and file is None and not isdir(output):
        if lexists(output):
            what = "a file" if exists(output) else LOST_LINK
            needed = "several results need a folder"
            if not several:
                needed = f"a result needs a suffix, such as {output}.png, or a folder"
            raise OutputError(f"{output}: {what}, but {needed}")
        if output.suffix.lower() in OUTPUT_FORMATS:
            folder = output.with_suffix("")
            raise ConfigError(
                f"{output} is the name of one image, but there are several; give a folder such as "
                f"--output {folder}"
            )
    planned: list[Planned] = []
    named: set[Path] = set()
    taken: dict[Path, str] = {}
    for found in (image for given in inputs for image in _images_of(given, output, naming)):
        if isinstance(found, Refused):
            planned.append(found)
            continue
        place = _place(found.source)
        if place in named:
            continue
        named.add(place)
        target = file or _target(found, output, naming)
        planned.append(_decide(found.source, target, naming, taken))
        taken.setdefault(_place(target), found.source)
    return planned


def _place(path: str | Path) -> Path:
    """One path for one file, whichever links and '..' lead to its folder."""
    return Path(realpath(Path(path).parent)) / Path(path).name


def only_result(inputs: Sequence[str], output: Path | None) -> Path | None:
    """The file that `output` is, where it is no folder of results."""
    if output is None or is_several(inputs) or isdir(output):
        return None
    # No format is called by digits alone; dates and versions are.
    is_file = bool(output.suffix.strip(".0123456789"))
    return output if is_file else None


def is_several(inputs: Sequence[str]) -> bool:
    """Tell whether inputs may name more than one image."""
    return len(inputs) > 1 or any(isdir(given) or _is_pattern(given) for given in inputs)


def _is_pattern(given: str) -> bool:
    return not samples.is_sample(given) and has_magic(given) and not lexists(given)


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
    fresh = _without_results(images, naming)
    if not fresh:
        known = ", ".join(IMAGE_SUFFIXES)
        fresh = [Refused(given, ImageError(f"{given}: {nothing} ({known})"))]
    yield from fresh


def _without_results(images: list[_Found | Refused], naming: Naming) -> list[_Found | Refused]:
    """The images that no earlier run made of others among them."""
    sources = [Path(image.source) for image in images if isinstance(image, _Found)]
    # A result may have its source's own name, in another folder.
    results = {
        result
        for source in sources
        if (result := source.with_name(naming.result(source.name)).with_suffix(""))
        != source.with_suffix("")
    }
    there = {abspath(source) for source in sources}

    def is_result(image: _Found) -> bool:
        path = Path(image.source)
        if path.with_suffix("") in results or is_sheet(path):
            return True
        made_of = naming.source_of(path)
        return made_of is not None and (made_of in there or _is_unlisted(made_of, image.base))

    return [image for image in images if isinstance(image, Refused) or not is_result(image)]


def _is_unlisted(source: str, folder: Path) -> bool:
    """Tell whether an image is in a folder whose name does not say that it is one."""
    below = Path(abspath(folder)) in Path(source).parents
    return below and not is_image(Path(source)) and exists(source)


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
            if is_image(place / name):
                yield _Found(str(place / name), folder)
    for error in unreadable:
        reason = ImageError(f"{error.filename}: cannot be read ({error.strerror})")
        yield Refused(str(error.filename), reason)


def _below(folder: Path, output: Path | None) -> Path | None:
    """The folder of results, without links, if it lies below one of images."""
    real = None if output is None else output.resolve()
    return real if real and folder.resolve() in real.parents else None


def _decide(source: str, target: Path, naming: Naming, taken: dict[Path, str]) -> Planned:
    place = _place(target)
    if samples.is_sample(source):
        try:
            samples.check(source)
        except ImageError as error:
            return Refused(source, error)
    elif not exists(source):
        return Refused(source, ImageError(f"{source or 'an empty name'}: {why_absent(source)}"))
    elif exists(place) and place.samefile(source):
        return Refused(source, OutputError(f"{target}: the result would replace its own input"))
    if place in taken:
        other = taken[place]
        message = f"{source}: its result {target} is already that of {other}; "
        if Path(source).name == Path(other).name:
            # No template tells these apart.
            message += "give the folder above both, or a quoted pattern such as 'DIR/*/*.jpg'"
        else:
            message += "--name '{stem}_{ext}' tells them apart"
        return Refused(source, OutputError(message))
    if place.parent in SYSTEM_FOLDERS or Path("/proc") in place.parents:
        message = f"{target}: no place for a result; name another with --output"
        return Refused(source, OutputError(message))
    if isdir(place):
        message = f"{target}: a folder; call the result otherwise, with --output or --name"
        return Refused(source, OutputError(message))
    if not lexists(place):
        return Job(source, target)
    if exists(place) and naming.keep(source, target):
        return Present(source, target)
    if naming.overwrite:
        return Job(source, target)
    if not exists(place):
        message = f"{target}: {LOST_LINK}; use --overwrite or another --output"
        return Refused(source, OutputError(message))
    message = f"{target}: exists already; use --overwrite, --skip-existing or another --output"
    return Refused(source, OutputError(message))
