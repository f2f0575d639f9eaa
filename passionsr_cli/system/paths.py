"""Folders of the user's files: data that is kept, and caches that can be deleted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from passionsr_cli.errors import OutputError

# As Debian calls the home of users who have none.
NO_HOME = "/nonexistent"


def home() -> Path:
    """Folder of entries and unfinished runs: `PASSIONSR_HOME`, else the user's data directory."""
    return _own_folder("PASSIONSR_HOME", "user_data_path")


def cache_folder() -> Path:
    """`PASSIONSR_CACHE`, else the user's cache directory. All in it can be deleted."""
    return _own_folder("PASSIONSR_CACHE", "user_cache_path")


def survive_without_home() -> None:
    """Give users without a home, such as those of containers that are only a number, one that does
    not exist: OpenVINO cannot be imported without any."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = NO_HOME


def _own_folder(variable: str, directory: str) -> Path:
    """The folder that a variable names, else one of platformdirs'. Raises `OutputError` where it
    would be in the home of a user without one."""
    given = os.environ.get(variable)
    with contextlib.suppress(RuntimeError):
        if given:
            folder = Path(given).expanduser()
        else:
            import platformdirs

            folder = getattr(platformdirs, directory)("passionsr", appauthor=False)
        # Older releases of platformdirs leave what they cannot expand as it is.
        if not folder.is_relative_to(NO_HOME) and (given or folder.is_absolute()):
            return folder
    raise OutputError(
        "this user has no home directory; set HOME, or PASSIONSR_HOME and PASSIONSR_CACHE, "
        "to folders that can be written"
    )


def configs_folder() -> Path:
    """Folder of the presets and recipes: inside the installed package, or beside a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
