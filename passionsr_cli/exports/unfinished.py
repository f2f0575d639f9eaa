"""Exports that are not finished, beside their place: after a kill the same export goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passionsr_cli.graphs.made_by import ONNX_CONVERTERS, image_code
from passionsr_cli.progress import Reporter
from passionsr_cli.system import cpu
from passionsr_cli.system.files import is_own_folder, read_json, remove, replace_atomically
from passionsr_cli.system.sources import version_of

MADE_BY_FILE = "made_by.json"
# Their makers decide what files say.
PACKAGES = (*ONNX_CONVERTERS, "openvino")


@dataclass(frozen=True)
class Unfinished:
    """The folder of an unfinished export: `files` become the export, `definition` proves it."""

    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def definition(self) -> Path:
        return self.folder / "definition.npz"


@contextmanager
def unfinished_export(
    folder: Path, identity: Mapping[str, Any], reporter: Reporter
) -> Iterator[Unfinished]:
    """An export in `folder`, with what the one of the same `identity` left there that was stopped.

    What another one left is removed, and everything when this one fails or is at its end.
    """
    unfinished = Unfinished(folder)
    made_by = {**identity, **_machine()}
    if _made_by(folder) == made_by and is_own_folder(unfinished.files):
        reporter.note("going on with the export that was stopped")
    else:
        remove(folder)
        unfinished.files.mkdir(parents=True)
        with replace_atomically(folder / MADE_BY_FILE) as temporary:
            temporary.write_text(json.dumps(made_by), encoding="utf-8")
    try:
        yield unfinished
    except Exception:
        remove(folder)
        raise
    remove(folder)


def _made_by(folder: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return read_json(folder / MADE_BY_FILE)
    return None


def _machine() -> dict[str, Any]:
    """Facts by which the same export may have other bytes."""
    return {
        "code": image_code("exports"),
        "cpu": [cpu.name(), *cpu.instructions()],
        "packages": {package: version_of(package) for package in PACKAGES},
    }
