"""Folders of the user's files: data that is kept, and caches that can be deleted."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Folder of entries and unfinished runs: `PASSIONSR_HOME`, else the user's data directory."""
    given = os.environ.get("PASSIONSR_HOME")
    if given:
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("passionsr", appauthor=False)


def cache_folder() -> Path:
    """`PASSIONSR_CACHE`, else the user's cache directory. All in it can be deleted."""
    given = os.environ.get("PASSIONSR_CACHE")
    if given:
        return Path(given).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("passionsr", appauthor=False)


def configs_folder() -> Path:
    """Folder of the presets and recipes: inside the installed package, or beside a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
