"""Checkpoints that PassionSR's authors calibrated, as checkpoints of ours."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import torch
from pydantic import JsonValue

from passionsr_cli import __version__
from passionsr_cli.bits import FLOATING, bits_name
from passionsr_cli.checkpoints.catalogue import Checkpoint, find_checkpoint
from passionsr_cli.checkpoints.manifest import (
    CheckpointManifest,
    ImagesRecord,
    ImportedFile,
    MethodRecord,
    Origin,
    created_now,
)
from passionsr_cli.checkpoints.released.files import ReleasedPart, read_part
from passionsr_cli.checkpoints.released.model import Numerics, convert_model
from passionsr_cli.checkpoints.tensors import write_checkpoint
from passionsr_cli.description import ModelDescription
from passionsr_cli.errors import ConfigError, ModelError, StoreError
from passionsr_cli.models import catalogue, loading
from passionsr_cli.progress import SILENT, Reporter
from passionsr_cli.store import CHECKPOINT, Store
from passionsr_cli.system.files import sha256_of
from passionsr_cli.system.memory import process_peak_bytes
from passionsr_cli.system.paths import StrPath, name_of


def _checked_numerics(text: str) -> Numerics:
    for known in get_args(Numerics):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"unknown numerics '{text}'; use {' or '.join(get_args(Numerics))}")


def import_checkpoint(
    files: StrPath | Sequence[StrPath],
    config: StrPath,
    model: str,
    name: str | None = None,
    numerics: str = "standard",
    reporter: Reporter = SILENT,
) -> Checkpoint:
    """A checkpoint of the store from released files of a UNet, a VAE or both.

    Without a `name` it is MODEL-BITS-imported, or -released with those numerics. `numerics`
    released computes what the authors' code computes, simulated by torch; standard is this
    package's definition, which runs on integers. Every key of the files must be understood and
    every layer of their parts be there, else `ModelError` names the first. A checkpoint of this
    name that was imported from the same is left as it is, another is refused.
    """
    started = time.monotonic()
    chosen = _checked_numerics(numerics)
    known = catalogue.find_present(model)
    given = [files] if isinstance(files, (str, os.PathLike)) else files
    parts = _read_parts([Path(file) for file in given], Path(config), known.description)
    ending = "imported" if chosen == "standard" else chosen
    name = name or f"{name_of(model)}-{_bits_name(parts)}-{ending}"
    imported = tuple(
        ImportedFile(file=str(part.file), sha256=sha256_of(part.file)) for part in parts.values()
    )
    settings: dict[str, JsonValue] = {
        part.name: part.settings.model_dump(mode="json") for part in parts.values()
    }
    if Store(CHECKPOINT).exists(name):
        present = find_checkpoint(name)
        if _about(present.manifest) != (known.sha256, chosen, settings, _digests(imported)):
            raise StoreError(
                f"another checkpoint named '{name}' exists already; choose another --name, or "
                f"delete it with `passionsr checkpoints remove {name}`"
            )
        reporter.note(f"'{name}' is finished already")
        return present
    loaded = loading.load(model)
    parameters = sum(p.numel() for p in loaded.parameters())
    records = convert_model(loaded, parts, chosen, reporter)
    manifest = CheckpointManifest(
        created=created_now(),
        model=Origin(
            name=model,
            sha256=known.sha256,
            parameters=parameters,
            description=known.description,
        ),
        bits=_bits_name(parts),
        numerics=chosen,
        settings=settings,
        method=MethodRecord(name="imported", settings={"numerics": chosen}),
        images=ImagesRecord(source="chosen by its authors"),
        files=imported,
        stages=(),
        image_psnr=None,
        seconds=time.monotonic() - started,
        peak_memory_bytes=process_peak_bytes(),
        layers=tuple(records),
        versions={"passionsr": __version__, "torch": str(torch.__version__)},
    )
    return write_checkpoint(name, manifest, loaded)


def _about(manifest: CheckpointManifest) -> tuple[object, ...]:
    """Origin of an import."""
    files = _digests(manifest.files)
    return manifest.model.sha256, manifest.numerics, manifest.settings, files


def _digests(files: Sequence[ImportedFile]) -> list[str]:
    return [file.sha256 for file in files]


def _read_parts(
    files: Sequence[Path], config: Path, description: ModelDescription
) -> dict[str, ReleasedPart]:
    parts: dict[str, ReleasedPart] = {}
    for file in files:
        part = read_part(file, config, description)
        if part.name in parts:
            raise ModelError(f"{parts[part.name].file} and {file} are both of the {part.name}")
        parts[part.name] = part
    return parts


def _bits_name(parts: Mapping[str, ReleasedPart]) -> str:
    unet, vae = (parts[name].bits if name in parts else FLOATING for name in ("unet", "vae"))
    return bits_name(unet, vae)
