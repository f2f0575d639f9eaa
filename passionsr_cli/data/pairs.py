"""Data sets: where they are, and which two files make a pair.

Files are paired by a declared rule: the part of both names that the layout marks with '*' is the
same. A file without a partner, or with two, is an error. (Pairing by the longest common
beginning, as some released scripts do, gives plausible numbers that are wrong.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os.path import isdir
from pathlib import Path

from passionsr_cli.errors import DataError
from passionsr_cli.imaging import samples
from passionsr_cli.imaging.files import find_images
from passionsr_cli.system.paths import home
from passionsr_cli.system.text import suggestion

SAMPLE = "sample"


@dataclass(frozen=True)
class Layout:
    """Places of a data set's pairs. Names are 'folder/beginning*end', without a suffix; a '*' among
    the folders stands for several, whose pairs are one data set's.

    `crops` says that the pairs are StableSR's 128×128 and 512×512 crops, which the numbers of
    some papers, not of all, belong to.
    """

    lr: str
    hr: str
    crops: bool = False

    def __str__(self) -> str:
        return f"{self.lr}.png beside {self.hr}.png"


@dataclass(frozen=True)
class Known:
    """A data set by name: its layouts, and where it can be had."""

    layouts: tuple[Layout, ...]
    source: str


_CROPS = Layout("test_LR/*", "test_HR/*", crops=True)
_SRF_4 = Layout("image_SRF_4/*_SRF_4_LR", "image_SRF_4/*_SRF_4_HR")
_STABLESR = "https://huggingface.co/datasets/Iceclear/StableSR-TestSets"
_SELFEXSR = "https://github.com/jbhuang0604/SelfExSR"
KNOWN: dict[str, Known] = {
    "RealSR": Known(
        # Behind the crops the full size, https://github.com/csjcai/RealSR: sorted by size, as it
        # was released, in a folder for each camera, and the folder of one camera.
        (
            _CROPS,
            Layout("test/LR/X4/*_LR4", "test/HR/*_HR"),
            Layout("*/Test/4/*_LR4", "*/Test/4/*_HR"),
            Layout("*_LR4", "*_HR"),
        ),
        _STABLESR,
    ),
    "DRealSR": Known((_CROPS,), _STABLESR),
    "DIV2K_val": Known(
        (Layout("DIV2K_valid_LR_bicubic/X4/*x4", "DIV2K_valid_HR/*"),),
        "https://data.vision.ee.ethz.ch/cvl/DIV2K",
    ),
    "Urban100": Known((_SRF_4,), _SELFEXSR),
    "Set5": Known((_SRF_4,), _SELFEXSR),
    "Set14": Known((_SRF_4,), _SELFEXSR),
    "BSD100": Known((_SRF_4,), _SELFEXSR),
}
_ANY_FOLDER = (
    *dict.fromkeys(layout for known in KNOWN.values() for layout in known.layouts),
    Layout("lr/*", "hr/*"),
    Layout("LR/*", "HR/*"),
)


@dataclass(frozen=True)
class Pair:
    """A low-resolution image and its photograph: paths, or `sample:NAME` twice.

    `name` is what results are called; `stems` are all names a finished image may have.
    """

    name: str
    lr: str
    hr: str
    stems: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """The pairs of a data set, in the order of their names."""

    name: str
    pairs: tuple[Pair, ...]
    crops: bool = False


def find_dataset(wanted: str, root: Path | None) -> Dataset:
    """A data set by name, by folder, or by two folders 'LR,HR'. Raises `DataError`."""
    if wanted == SAMPLE:
        return _samples()
    name = _known(wanted)
    if name is not None:
        roots = _roots(root)
        for folder in filter(None, (_folder_of(name, place) for place in roots)):
            return _in_folder(name, folder, KNOWN[name].layouts)
        raise DataError(_how_to_get(name, roots))
    if isdir(wanted):
        folder = Path(wanted)
        own_name = folder.resolve().name
        name = _known(own_name)
        layouts = KNOWN[name].layouts if name else ()
        return _in_folder(name or own_name, folder, (*layouts, *_ANY_FOLDER))
    lr, comma, hr = wanted.partition(",")
    if comma:
        for side in (lr, hr):
            if not isdir(side):
                raise DataError(f"{side}: no such folder; --dataset LR,HR names two folders")
        pairs = _paired(images_by_name(Path(lr), "*"), images_by_name(Path(hr), "*"), lr, hr)
        return Dataset(f"{Path(lr).name},{Path(hr).name}", pairs)
    known = suggestion(wanted, (SAMPLE, *KNOWN))
    raise DataError(f"no data set '{wanted}': neither a folder nor a known one{known}")


def _known(wanted: str) -> str | None:
    """The name of a known data set, however it was capitalised."""
    return next((known for known in KNOWN if known.lower() == wanted.lower()), None)


def _folder_of(name: str, place: Path) -> Path | None:
    """The folder of a data set, however it is capitalised, in a folder of data sets, or that
    folder if it is the set's own."""
    below: list[Path] = []
    with suppress(OSError):
        below = sorted(place.iterdir())
    named = [path for path in (place / name, *below) if path.name.lower() == name.lower()]
    own = [place] if place.resolve().name.lower() == name.lower() else []
    return next((path for path in (*named, *own) if path.is_dir()), None)


def _roots(root: Path | None) -> list[Path]:
    """Folders that may hold data sets, the first one found goes."""
    given = [root] if root is not None else []
    variable = os.environ.get("PASSIONSR_DATA")
    places = [*given, *([Path(variable).expanduser()] if variable else []), home() / "data"]
    return list(dict.fromkeys(places))


def _how_to_get(name: str, roots: Sequence[Path]) -> str:
    return (
        f"data set '{name}' is not in {', '.join(str(place) for place in roots)}; "
        f"name its folder with --data-root, or get it from {KNOWN[name].source}"
    )


def _samples() -> Dataset:
    """The sample photographs and their quarter-size versions: real photographs, easy inputs."""
    pairs = [
        Pair(name, f"{samples.PREFIX}{name}", f"{samples.PREFIX}{name}", (name, f"{name}_x4"))
        for name in samples.NAMES
    ]
    return Dataset(SAMPLE, tuple(pairs))


def _in_folder(name: str, folder: Path, layouts: Sequence[Layout]) -> Dataset:
    for layout in layouts:
        lr_folders, hr_folders = _places(folder, layout.lr), _places(folder, layout.hr)
        if not (lr_folders and hr_folders):
            continue
        lr, hr = _images_in(lr_folders, layout.lr), _images_in(hr_folders, layout.hr)
        # Of a folder that is there anyway only its images say that it has this layout.
        if folder in lr_folders and not (lr and hr):
            continue
        pairs = _paired(lr, hr, layout.lr, layout.hr, folder)
        return Dataset(name, pairs, layout.crops)
    if find_images(folder):
        raise DataError(f"{folder} holds one side of pairs; {_other_side(folder)}")
    wanted = ", ".join(f"{layout.lr} and {layout.hr}" for layout in dict.fromkeys(layouts))
    raise DataError(f"{folder} holds no pairs of images; it should hold one of: {wanted}")


def _places(folder: Path, rule: str) -> list[Path]:
    """The folders that a layout's rule names in the folder of a data set."""
    below = rule.rpartition("/")[0]
    return sorted(path for path in folder.glob(below) if path.is_dir()) if below else [folder]


def _images_in(folders: Sequence[Path], rule: str) -> dict[str, Path]:
    """The images of these folders by what stands for the last '*' of a layout's rule."""
    found: dict[str, Path] = {}
    for folder in folders:
        for key, path in images_by_name(folder, rule.rpartition("/")[2]).items():
            _keep(found, key, path)
    return found


def _keep(found: dict[str, Path], key: str, path: Path) -> None:
    if key in found:
        raise DataError(f"{found[key]} and {path} are the same image twice; keep one")
    found[key] = path


def _other_side(folder: Path) -> str:
    """Advice on naming both sides of a data set of which one was given."""
    name, above = folder.resolve().name, folder.resolve().parent
    for one, other in (("HR", "LR"), ("hr", "lr")):
        for here, there in ((one, other), (other, one)):
            if here in name and (above / name.replace(here, there)).is_dir():
                return f"give the folder above, --dataset {above}"
    return f"name the other side, too: --dataset LR_FOLDER,{folder}"


def images_by_name(folder: Path, pattern: str = "*") -> dict[str, Path]:
    """The images of a folder by what stands for the '*'; two of the same are refused."""
    beginning, end = pattern.split("*")
    found: dict[str, Path] = {}
    for path in find_images(folder):
        stem = path.stem
        if not (stem.startswith(beginning) and stem.endswith(end)):
            continue
        key = stem[len(beginning) : len(stem) - len(end)]
        _keep(found, key, path)
    return found


def _paired(
    lr: dict[str, Path], hr: dict[str, Path], lr_rule: str, hr_rule: str, folder: Path = Path()
) -> tuple[Pair, ...]:
    if not lr and not hr:
        raise DataError(f"{folder}: no images are called {lr_rule} and {hr_rule}")
    for side, other, rule in ((lr, hr, hr_rule), (hr, lr, lr_rule)):
        for key in sorted(side.keys() - other.keys()):
            expected = key.join(rule.rsplit("*", 1)) if "*" in rule else f"{rule}/{key}"
            raise DataError(
                f"{side[key]} has no partner {folder / expected} (with the suffix of an image)"
            )
    return tuple(_pair(key, lr[key], hr[key]) for key in sorted(lr))


def _pair(key: str, lr: Path, hr: Path) -> Pair:
    stems = dict.fromkeys((lr.stem, hr.stem, key, f"{lr.stem}_x4"))
    return Pair(lr.stem, str(lr), str(hr), tuple(stems))


def finished_images(folder: Path, dataset: Dataset) -> dict[str, Path]:
    """The finished image of each pair in a folder, by the pair's name.

    It is called like either image of the pair, or as `passionsr upscale` calls its result. No
    image, two, or one that belongs to no pair raise `DataError`.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of finished images")
    owners: dict[str, set[str]] = {}
    for pair in dataset.pairs:
        for stem in pair.stems:
            owners.setdefault(stem, set()).add(pair.name)
    found: dict[str, Path] = {}
    for path in find_images(folder):
        own = owners.get(path.stem, set())
        if len(own) != 1:
            what = "no image" if not own else f"two images, {' and '.join(sorted(own))},"
            raise DataError(f"{path} belongs to {what} of data set '{dataset.name}'")
        (name,) = own
        if name in found:
            raise DataError(f"{found[name]} and {path} are both results of '{name}'; keep one")
        found[name] = path
    return found


def missing_images(found: dict[str, Path], folder: Path, pairs: Sequence[Pair]) -> Iterator[str]:
    """Complaints about each pair that has no finished image."""
    for pair in pairs:
        if pair.name not in found:
            known = " or ".join(pair.stems)
            yield f"{folder} holds no result of {pair.lr}; it would be called {known}"
