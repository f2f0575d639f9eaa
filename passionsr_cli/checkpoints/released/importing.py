"""Checkpoints that PassionSR's authors calibrated, as checkpoints of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

import torch

from passionsr_cli import __version__
from passionsr_cli.checkpoints import checkpoints
from passionsr_cli.checkpoints.released.files import ReleasedPart, read_part
from passionsr_cli.checkpoints.released.model import Numerics, convert_model
from passionsr_cli.errors import ConfigError, ModelError, StoreError
from passionsr_cli.models import sources
from passionsr_cli.registry import ModelDescription
from passionsr_cli.store import Entry, Store
from passionsr_cli.system.files import sha256_of
from passionsr_cli.system.memory import process_peak_bytes


def checked_numerics(text: str) -> Numerics:
    """`text` as one of the numerics. Raises `ConfigError` if it is none."""
    for known in get_args(Numerics):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"unknown numerics '{text}'; use {' or '.join(get_args(Numerics))}")


def import_checkpoint(
    files: Sequence[Path],
    config: Path,
    model_name: str,
    name: str | None = None,
    numerics: Numerics = "standard",
    on_note: Callable[[str], None] = lambda text: None,
) -> Entry:
    """A checkpoint of the store from released files of a UNet, a VAE or both.

    Without a `name` it is MODEL-BITS-imported, or -released with those numerics. `numerics`
    released computes what the authors' code computes, simulated by torch; standard is this
    package's definition, which runs on integers. Every key of the files must be understood and
    every layer of their parts be there, else `ModelError` names the first.
    """
    started = time.monotonic()
    known = sources.find_present(model_name)
    parts = _read_parts(files, config, known.description)
    ending = "imported" if numerics == "standard" else numerics
    name = name or f"{Path(model_name).name}-{_bits_name(parts)}-{ending}"
    store = Store(checkpoints.KIND)
    if store.exists(name):
        raise StoreError(
            f"a checkpoint named '{name}' exists already; choose another --name, or delete it "
            f"with `passionsr checkpoints remove {name}`"
        )
    model = sources.load(model_name)
    parameters = sum(p.numel() for p in model.parameters())
    rows = convert_model(model, parts, numerics, on_note)
    manifest = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": {
            "name": model_name,
            "sha256": sources.checksum(known),
            "parameters": parameters,
            "description": known.description.model_dump(mode="json"),
        },
        "numerics": numerics,
        "layers": [row.as_dict() for row in rows],
        **_origin(parts, numerics),
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": process_peak_bytes(),
    }
    store.write(name, manifest, checkpoints.pack_model(model))
    return store.read(name)


def _origin(parts: Mapping[str, ReleasedPart], numerics: Numerics) -> dict[str, Any]:
    """What a manifest says of how a checkpoint was made, where its authors made it."""
    return {
        "bits": _bits_name(parts),
        "settings": {part.name: part.settings.model_dump() for part in parts.values()},
        "method": {"name": "imported", "settings": {"numerics": numerics}},
        "images": {"source": "chosen by its authors"},
        "files": [
            {"file": str(part.file), "sha256": sha256_of(part.file)} for part in parts.values()
        ],
        "stages": [],
        "image_psnr": None,
        "versions": {"passionsr": __version__, "torch": str(torch.__version__)},
    }


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
    bits = {name: parts[name].bits if name in parts else "fp" for name in ("unet", "vae")}
    if bits["unet"] == bits["vae"]:
        return bits["unet"]
    return "-".join(f"{name}-{text}" for name, text in bits.items())
