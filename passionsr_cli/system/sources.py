"""SHA-256 of the package's own source files, and versions of others, so that what other code made
is not used again."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def sources_sha256(*places: str, package: Path = PACKAGE) -> str:
    """SHA-256 over names and contents of all Python files below `places`, hexadecimal.

    `places` are rooms and files relative to the package, such as "imaging" or "store.py".
    """
    digest = hashlib.sha256()
    for place in places:
        found = [package / place] if place.endswith(".py") else [*(package / place).rglob("*.py")]
        if not found:
            raise FileNotFoundError(f"no sources in {package / place}")
        for path in sorted(found):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(package).as_posix()} {content}\n".encode())
    return digest.hexdigest()


@cache
def version_of(package: str) -> str:
    """The version of another package, empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
