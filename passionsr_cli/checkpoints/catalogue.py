"""The checkpoints of this machine: finding, listing, describing, removing. Imports no torch."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from os.path import isdir
from pathlib import Path
from typing import Any

from passionsr_cli.bits import FLOAT_BITS
from passionsr_cli.checkpoints.manifest import CheckpointManifest, load_manifest
from passionsr_cli.checkpoints.unfinished import run_folder, unfinished
from passionsr_cli.errors import ModelError, PassionSRError, StoreError
from passionsr_cli.models.catalogue import find
from passionsr_cli.quantization.schemes import LayerPlan, LayerRecord, Scheme
from passionsr_cli.registry import EMBEDDED_CHECKPOINT, EMBEDDED_CHECKPOINT_FOLDER
from passionsr_cli.store import CHECKPOINT, Entry, Store, read_entry
from passionsr_cli.system import files
from passionsr_cli.system.claims import claim
from passionsr_cli.system.paths import name_of
from passionsr_cli.system.text import suggestion


@dataclass(frozen=True)
class Checkpoint:
    """A calibrated model on disk: its folder's entry and its manifest."""

    entry: Entry
    manifest: CheckpointManifest

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def folder(self) -> Path:
        return self.entry.folder

    @property
    def tensors_path(self) -> Path:
        return self.entry.tensors_path


def read_checkpoint(entry: Entry) -> Checkpoint:
    """The checkpoint of a store entry. Raises `StoreError` if its manifest is damaged."""
    return Checkpoint(entry, load_manifest(entry))


def checkpoint_names() -> tuple[str, ...]:
    """Names of all checkpoints of this machine, the embedded one first."""
    return (EMBEDDED_CHECKPOINT, *Store(CHECKPOINT).names())


def find_checkpoint(name: str) -> Checkpoint:
    """The checkpoint of this name, or in this folder."""
    store = Store(CHECKPOINT)
    if name == EMBEDDED_CHECKPOINT:
        return read_checkpoint(read_entry(EMBEDDED_CHECKPOINT_FOLDER, CHECKPOINT))
    if name in store.names():
        return read_checkpoint(store.read(name))
    if isdir(name):
        return read_checkpoint(read_entry(Path(name), CHECKPOINT))
    raise StoreError(f"no checkpoint named '{name}'{suggestion(name, checkpoint_names())}")


def check_origin(name: str, model: str) -> None:
    """Refuse a checkpoint unless it was made from exactly this model."""
    known, origin = find(model), find_checkpoint(name).manifest.model
    if known.folder is None or known.sha256 != origin.sha256:
        raise ModelError(
            f"checkpoint '{name_of(name)}' was made from '{origin.name}' with weights "
            f"{origin.sha256[:12]}…, not from this '{model}'; leave out --model, or "
            "calibrate that model"
        )


def summary(checkpoint: Checkpoint) -> dict[str, Any]:
    """Summary of a checkpoint for lists."""
    manifest, size = checkpoint.manifest, checkpoint.entry.tensors_file.bytes
    return {
        "name": checkpoint.name,
        "model": manifest.model.name,
        "bits": manifest.bits,
        "method": manifest.method.name,
        "image_psnr": manifest.image_psnr,
        "bytes": size,
        "share_of_32_bits": size / (4 * manifest.model.parameters),
        "seconds": manifest.seconds,
        "created": manifest.created,
    }


def listing() -> tuple[list[dict[str, Any]], dict[str, str], list[str]]:
    """Summaries of the checkpoints, damaged ones with the reason, and unfinished calibrations."""
    found: list[dict[str, Any]] = []
    damaged: dict[str, str] = {}
    for name in checkpoint_names():
        try:
            found.append(summary(find_checkpoint(name)))
        except PassionSRError as error:
            damaged[name] = str(error)
    return found, damaged, unfinished()


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything there is to say about a checkpoint, for people and programs."""
    manifest = checkpoint.manifest
    quantized = [record for record in manifest.layers if record.plan is not None]
    return {
        **summary(checkpoint),
        "folder": str(checkpoint.folder),
        "peak_memory_bytes": manifest.peak_memory_bytes,
        "stages": [asdict(stage) for stage in manifest.stages],
        "images": manifest.images.model_dump(exclude_none=True),
        "settings": manifest.settings,
        "method_settings": manifest.method.settings,
        "versions": manifest.versions,
        "quantized_layers": len(quantized),
        "left_alone": len(manifest.layers) - len(quantized),
        "mean_weight_bits": mean_weight_bits(quantized),
        "layer_bits": dict(Counter(bits_of(record) for record in quantized).most_common()),
        "layers": [_described(record) for record in manifest.layers],
    }


def bits_of(record: LayerRecord) -> str:
    """'w6a6'; an attention, which has no weights, is 'a6'."""
    activation = FLOAT_BITS if record.activation is None else record.activation.num_bits
    if not isinstance(record.plan, LayerPlan):
        return f"a{activation}"
    return f"w{FLOAT_BITS if record.weight is None else record.weight.num_bits}a{activation}"


def mean_weight_bits(records: Sequence[LayerRecord]) -> float | None:
    """Bits of a quantized weight on average; None if there is none."""
    counts = [
        (record.weight.num_bits, prod(record.weight_shape))
        for record in records
        if record.weight is not None
    ]
    total = sum(count for _, count in counts)
    return sum(bits * count for bits, count in counts) / total if total else None


def _described(record: LayerRecord) -> dict[str, str]:
    remarks = []
    if isinstance(record.plan, LayerPlan):
        parts = (
            ("scale", record.plan.channel_scale),
            ("shift", record.plan.channel_shift),
            (f"split at {record.plan.split}", record.plan.split is not None),
        )
        remarks = [text for text, there in parts if there]
    elif record.plan is not None and record.plan.channel_scale:
        remarks = ["scale of q and k"]
    return {
        "name": record.name,
        "kind": record.kind,
        "weights": _scheme(record.weight) if isinstance(record.plan, LayerPlan) else "",
        "activations": _scheme(record.activation) if record.plan is not None else "",
        "transformation": ", ".join(remarks),
        "reason": record.reason,
    }


def _scheme(scheme: Scheme | None) -> str:
    if scheme is None:
        return "floating point"
    symmetry = "symmetric" if scheme.symmetric else "asymmetric"
    granularity = "per tensor" if scheme.channel_axis is None else "per channel"
    return f"{scheme.num_bits} bits, {symmetry}, {granularity}"


def what_is_named(name: str) -> str:
    """'checkpoint' or 'unfinished calibration'; refuses a name that is neither."""
    if name in Store(CHECKPOINT).names():
        return "checkpoint"
    if name in unfinished():
        return "unfinished calibration"
    find_checkpoint(name)
    if name == EMBEDDED_CHECKPOINT:
        raise StoreError(f"'{name}' is part of passionsr and stays")
    raise StoreError(f"'{name}' is a folder outside the store; delete it yourself")


def remove(name: str) -> None:
    """Delete a checkpoint, or else an unfinished calibration, of this name."""
    if what_is_named(name) == "checkpoint":
        Store(CHECKPOINT).remove(name)
    else:
        with claim(run_folder(name), "removing"):
            # What it wrote of its checkpoint before it was stopped.
            files.remove(Store(CHECKPOINT).folder(name))
            shutil.rmtree(run_folder(name))
