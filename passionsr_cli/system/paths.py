"""Folders of the user's files: data that is kept, and caches that can be deleted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TypeAlias

# What a program may give for a path.
StrPath: TypeAlias = str | os.PathLike[str]
# As Debian calls the home of users who have none.
NO_HOME = "/nonexistent"


def home() -> Path:
    """Folder of entries and unfinished runs: `PASSIONSR_HOME`, else the user's data directory."""
    return _own_folder("PASSIONSR_HOME", "user_data_path")


def cache_folder() -> Path:
    """`PASSIONSR_CACHE`, else the user's cache directory. All in it can be deleted."""
    return _own_folder("PASSIONSR_CACHE", "user_cache_path")


def survive_without_home() -> bool:
    """Give users without a home, such as those of containers that are only a number, one that does
    not exist: OpenVINO cannot be imported without any. True if our folders would be there, so that
    nothing can be kept."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = NO_HOME
    return any(folder().is_relative_to(NO_HOME) for folder in (home, cache_folder))


def optional_path(given: StrPath | None) -> Path | None:
    """A path, where one was given."""
    return None if given is None else Path(given)


def name_of(path: str) -> str:
    """The last part of a name or path; of one that ends in none, as `.`, the folder's name."""
    name = Path(path).name
    return Path(path).resolve().name if name in ("", "..") else name


def _own_folder(variable: str, directory: str) -> Path:
    """The folder that a variable names, else one of platformdirs'; of users without a home one
    that does not exist: nothing is found there, and nothing can be written."""
    given = os.environ.get(variable)
    with contextlib.suppress(RuntimeError):
        if given:
            folder = Path(given).expanduser()
        else:
            import platformdirs

            folder = getattr(platformdirs, directory)("passionsr", appauthor=False)
        # Older releases of platformdirs leave what they cannot expand as it is.
        if given or folder.is_absolute():
            return folder
    return Path(NO_HOME) / "passionsr"


def configs_folder() -> Path:
    """Folder of the presets and recipes: inside the installed package, or beside a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
