"""Folders of converted graphs: one for each model and code, and the sweep of old ones."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from passionsr_cli.checkpoints.artifacts import Artifact
from passionsr_cli.system.files import remove, temporary_beside
from passionsr_cli.system.paths import cache_folder
from passionsr_cli.system.sources import version_of

# Days without use, after which graphs go: those that newer ones replace, and any.
REPLACED_AFTER, UNUSED_AFTER = 1, 30
# MODEL-FINGERPRINT-KEY; anything else there is somebody's.
_NAME = re.compile(r".+-[0-9a-f]{12}-[0-9a-f]{24}")


def graphs_folder(
    kind: str, artifact: Artifact, made_by: Sequence[object], converters: Sequence[str]
) -> Path:
    """The folder of an artifact's graphs, named after what is converted, `made_by` what, and the
    versions of the packages that convert it, its `converters`.

    Without one of these nothing can be converted: then it is the latest of any versions.
    """
    folder, versions = cache_folder() / kind, [version_of(package) for package in converters]
    converted = f"{artifact.description.name}-{_key([artifact.fingerprint])[:12]}"
    name = f"{converted}-{_key([artifact.fingerprint, *made_by])[:12]}"
    if not all(versions):
        made = folder.glob(f"{glob.escape(name)}*")
        if latest := max(made, key=lambda found: found.stat().st_mtime, default=None):
            return latest
    return folder / f"{name}{_key(versions)[:12]}"


def use(folder: Path) -> None:
    """Note that graphs are in use; where they are about to be made, old ones beside them go.

    Another process may still have these open, and reads on; none that looks for them later finds
    half of them.
    """
    with contextlib.suppress(OSError):
        if folder.exists():
            os.utime(folder)
            return
        if folder.parent.is_symlink():
            return
        for other in folder.parent.iterdir():
            ours = _NAME.fullmatch(other.name) and other.is_dir() and not other.is_symlink()
            if ours and _is_old(other, folder):
                away = temporary_beside(other)
                os.replace(other, away)
                remove(away)


def _is_old(other: Path, folder: Path) -> bool:
    replaced = other.name.rpartition("-")[0] == folder.name.rpartition("-")[0]
    days = (time.time() - other.stat().st_mtime) / 86400
    return days > (REPLACED_AFTER if replaced else UNUSED_AFTER)


def _key(values: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
