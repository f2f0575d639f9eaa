"""Models that are made, in the store: by one process at a time, whole, and known again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from passionsr_cli.errors import ModelError, OutputError, StoreError
from passionsr_cli.progress import Reporter
from passionsr_cli.published.tensor_files import Tensors
from passionsr_cli.registry import EMBEDDED_MODEL
from passionsr_cli.store import MODEL, Entry, Store
from passionsr_cli.system.claims import claim
from passionsr_cli.system.files import sha256_of
from passionsr_cli.system.paths import home


def claimed(name: str) -> AbstractContextManager[None]:
    """Hold the name of a model for this process alone. Raises `OutputError` if another holds it."""
    return claim(home() / "adding" / Store(MODEL).folder(name).name, "adding")


def finished(
    name: str, overwrite: bool, asked_for: Mapping[str, Any], reporter: Reporter
) -> Entry | None:
    """The model of this name if it was made for the same and of files that have not changed.

    Raises `OutputError` for names that a model cannot have and for another model's.
    """
    store = Store(MODEL)
    folder = store.folder(name)
    if name == EMBEDDED_MODEL:
        raise OutputError(f"'{name}' is the model inside the package; choose another name")
    if overwrite or not store.exists(name):
        return None
    entry = store.read(name)
    if entry.manifest.get("asked_for") == asked_for and _unchanged(entry.manifest["made_from"]):
        reporter.note(f"'{name}' is finished already")
        return entry
    raise OutputError(f"there is another model '{name}' in {folder}; use --overwrite to replace it")


def _unchanged(made_from: Mapping[str, Any]) -> bool:
    """Tell whether those of a model's files that are still there are as they were."""
    parts = [part if isinstance(part, list) else part["files"] for part in made_from.values()]
    files = [(Path(each["file"]), each) for part in parts for each in part]
    return all(
        path.stat().st_size == each["bytes"] and sha256_of(path) == each["sha256"]
        for path, each in files
        if path.is_file()
    )


def keep(name: str, manifest: dict[str, Any], tensors: Tensors, reporter: Reporter) -> Entry:
    """Write a model, whose name is `claimed`, into the store, and read it again.

    Raises `StoreError` where the disk cannot hold it, and nothing new is left on any failure.
    """
    store = Store(MODEL)
    _check_space(store.root, tensors)
    reporter.started("writing and reading again")
    return _write_verified(store, name, manifest, tensors)


def _check_space(root: Path, tensors: Tensors) -> None:
    """Refuse before writing what the disk cannot hold."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise StoreError(f"cannot write {root}: {error.strerror}; set PASSIONSR_HOME") from error
    if free < needed:
        raise StoreError(
            f"the model takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {root}; make "
            "room there or set PASSIONSR_HOME"
        )


def _write_verified(store: Store, name: str, manifest: dict[str, Any], tensors: Tensors) -> Entry:
    existed = store.exists(name)
    try:
        entry = store.write(name, manifest, tensors)
        read = entry.tensors()
        differing = [key for key in tensors if not torch.equal(read[key], tensors[key])]
        if differing or read.keys() != tensors.keys():
            raise ModelError(f"{entry.tensors_path} does not hold what was written ({differing})")
    except BaseException:
        if not existed:
            shutil.rmtree(store.folder(name), ignore_errors=True)
        raise
    return entry
