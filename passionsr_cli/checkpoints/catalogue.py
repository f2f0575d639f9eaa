"""The checkpoints of this machine: listing, describing, removing."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import Any

from passionsr_cli.checkpoints import checkpoints
from passionsr_cli.checkpoints.unfinished import run_folder, unfinished
from passionsr_cli.config import FLOAT_BITS
from passionsr_cli.errors import StoreError
from passionsr_cli.quantization.affine import Scheme
from passionsr_cli.quantization.convert import LayerRow
from passionsr_cli.quantization.plans import LayerPlan
from passionsr_cli.store import Entry, Store


def summary(entry: Entry) -> dict[str, Any]:
    """What lists show of a checkpoint."""
    manifest = entry.manifest
    try:
        size, parameters = manifest["tensors"]["bytes"], manifest["model"]["parameters"]
        return {
            "name": entry.name,
            "model": manifest["model"]["name"],
            "bits": manifest["bits"],
            "method": manifest["method"]["name"],
            "image_psnr": manifest["image_psnr"],
            "bytes": size,
            "share_of_32_bits": size / (4 * parameters),
            "seconds": manifest["seconds"],
            "created": manifest["created"],
        }
    except (KeyError, TypeError) as error:
        raise StoreError(f"the manifest of '{entry.name}' is damaged: {error!r}") from error


def listing() -> tuple[list[dict[str, Any]], dict[str, str], list[str]]:
    """Summaries of the checkpoints, damaged ones with the reason, and unfinished calibrations."""
    store = Store(checkpoints.KIND)
    found: list[dict[str, Any]] = []
    damaged: dict[str, str] = {}
    for name in store.names():
        try:
            found.append(summary(store.read(name)))
        except StoreError as error:
            damaged[name] = str(error)
    return found, damaged, unfinished()


def describe(entry: Entry) -> dict[str, Any]:
    """Everything there is to say about a checkpoint, for people and programs."""
    _, rows = checkpoints.describe(entry)
    manifest = entry.manifest
    quantized = [row for row in rows if row.plan is not None]
    return {
        **summary(entry),
        "folder": str(entry.folder),
        "peak_memory_bytes": manifest["peak_memory_bytes"],
        "stages": manifest["stages"],
        "images": manifest["images"],
        "settings": manifest["settings"],
        "method_settings": manifest["method"]["settings"],
        "versions": manifest["versions"],
        "quantized_layers": len(quantized),
        "left_alone": len(rows) - len(quantized),
        "layer_bits": dict(Counter(bits_of(row) for row in quantized).most_common()),
        "layers": [_described(row) for row in rows],
    }


def bits_of(row: LayerRow) -> str:
    """'w6a6'; an attention, which has no weights, is 'a6'."""
    activation = FLOAT_BITS if row.activation is None else row.activation.num_bits
    if not isinstance(row.plan, LayerPlan):
        return f"a{activation}"
    return f"w{FLOAT_BITS if row.weight is None else row.weight.num_bits}a{activation}"


def _described(row: LayerRow) -> dict[str, str]:
    remarks = []
    if isinstance(row.plan, LayerPlan):
        parts = (
            ("scale", row.plan.channel_scale),
            ("shift", row.plan.channel_shift),
            (f"split at {row.plan.split}", row.plan.split is not None),
        )
        remarks = [text for text, there in parts if there]
    elif row.plan is not None and row.plan.channel_scale:
        remarks = ["scale of q and k"]
    return {
        "name": row.name,
        "kind": row.kind,
        "weights": _scheme(row.weight) if isinstance(row.plan, LayerPlan) else "",
        "activations": _scheme(row.activation) if row.plan is not None else "",
        "transformation": ", ".join(remarks),
        "reason": row.reason,
    }


def _scheme(scheme: Scheme | None) -> str:
    if scheme is None:
        return "floating point"
    symmetry = "symmetric" if scheme.symmetric else "asymmetric"
    granularity = "per tensor" if scheme.channel_axis is None else "per channel"
    return f"{scheme.num_bits} bits, {symmetry}, {granularity}"


def what_is_named(name: str) -> str:
    """'checkpoint' or 'unfinished calibration'; refuses a name that is neither."""
    if name in Store(checkpoints.KIND).names():
        return "checkpoint"
    if name in unfinished():
        return "unfinished calibration"
    checkpoints.find(name)
    raise StoreError(f"'{name}' is a folder outside the store; delete it yourself")


def remove(name: str) -> None:
    """Delete a checkpoint, or else an unfinished calibration, of this name."""
    if what_is_named(name) == "checkpoint":
        Store(checkpoints.KIND).remove(name)
    else:
        shutil.rmtree(run_folder(name))
