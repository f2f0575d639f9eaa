"""Making a one-step model of the store from what others published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from passionsr_cli.errors import ModelError, OutputError, StoreError
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.published.legacy import Base, read_base
from passionsr_cli.published.lora import Adapters, merge, read_adapters
from passionsr_cli.published.prompts import empty_context, read_context
from passionsr_cli.published.recipes import find_recipe
from passionsr_cli.published.tensor_files import Tensors
from passionsr_cli.registry import EMBEDDED_MODEL, ModelDescription
from passionsr_cli.store import MODEL, Entry, Store, shortest
from passionsr_cli.system.files import sha256_of


@dataclass(frozen=True)
class ModelFiles:
    """The files a model is made from: the base model's folder or checkpoint, adapters to merge
    into it, and the embedding of the prompt, by default the empty one by the base's own encoder.

    `lora_alpha` is that of adapters whose files do not say it, None their rank."""

    base: Path
    adapters: Path | None = None
    context: Path | None = None
    lora_alpha: float | None = None


def add_model(
    name: str,
    base: Path,
    lora: Path | None = None,
    context: Path | None = None,
    recipe: str | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Entry:
    """Make a model of a base model's folder or file, with adapters merged into it.

    `context` is the embedding of the prompt, by default of the empty one; `recipe` a registered
    name or a YAML file.
    """
    found = find_recipe(recipe, name)
    parts = ModelFiles(base, lora, context, found.lora_alpha)
    return put_together(name, found.description, parts, overwrite, reporter)


def put_together(
    name: str,
    description: ModelDescription,
    parts: ModelFiles,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
    origin: dict[str, Any] | None = None,
) -> Entry:
    """Put a model together, in float32, and keep it in the store under this name.

    Nothing is left behind if anything is wrong with its files. `origin` is noted with it.
    """
    store = Store(MODEL)
    check_name(name, overwrite)
    tensors, made_from = _merged(parts, description, reporter)
    _check_space(store.root, tensors)
    manifest = {
        "description": description.model_copy(update={"name": name}).model_dump(mode="json"),
        "made_from": made_from,
        **(origin or {}),
    }
    reporter.started("writing and reading again")
    return _write_verified(store, name, manifest, tensors)


def _merged(
    parts: ModelFiles, description: ModelDescription, reporter: Reporter
) -> tuple[Tensors, dict[str, Any]]:
    """All tensors of the model, and what they were made from. The files are no longer open."""
    reporter.started(f"reading {parts.base}")
    base = read_base(parts.base, description)
    reporter.started("embedding the prompt")
    context = _context(base, parts, description)
    tensors, adapters = dict(base.tensors), None
    if parts.adapters is not None:
        reporter.started(f"merging {parts.adapters}")
        adapters = read_adapters(parts.adapters, tensors, parts.lora_alpha)
        tensors = merge(tensors, adapters, parts.adapters)
    reporter.started("checksums of what it is made from")
    made_from = _provenance(base, parts, adapters)
    # Copies: what was read points into files, all of which would stay in memory.
    made = {name: shortest(tensors.pop(name)).clone() for name in list(tensors)}
    made["context"] = context.clone()
    _check_finite(made, parts)
    return made, made_from


def _check_finite(tensors: Tensors, parts: ModelFiles) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            files = [str(path) for path in (parts.base, parts.adapters, parts.context) if path]
            raise ModelError(f"{name} holds NaN or infinity; {' or '.join(files)} is damaged")


def check_name(name: str, overwrite: bool) -> None:
    """Refuse a name a model cannot have."""
    store = Store(MODEL)
    folder = store.folder(name)
    if name == EMBEDDED_MODEL:
        raise OutputError(f"'{name}' is the model inside the package; choose another name")
    if store.exists(name) and not overwrite:
        raise OutputError(f"there is a model '{name}' in {folder}; use --overwrite to replace it")


def _context(base: Base, parts: ModelFiles, description: ModelDescription) -> Tensor:
    if parts.context is not None:
        return read_context(parts.context, description.context_shape)
    return empty_context(base, description.context_shape)


def _check_space(root: Path, tensors: Tensors) -> None:
    """Refuse before writing what the disk cannot hold."""
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise StoreError(
            f"the model takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {root}; make "
            "room there or set PASSIONSR_HOME"
        )


def _provenance(base: Base, parts: ModelFiles, adapters: Adapters | None) -> dict[str, Any]:
    made: dict[str, Any] = {"base": _files(base.files)}
    if adapters is not None:
        made["adapters"] = {
            "files": _files(adapters.files),
            "changed": adapters.counts(),
            "unused": adapters.unused,
        }
    if parts.context is not None:
        made["context"] = _files([parts.context])
    return made


def _files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    return [
        {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
    ]


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
