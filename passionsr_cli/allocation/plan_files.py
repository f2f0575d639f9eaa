"""The bits of a model's layers as files: YAML that `calibrate --plan` takes, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from passionsr_cli.bits import FLOAT_BITS
from passionsr_cli.models.components import COMPONENTS, component_of
from passionsr_cli.quantization.schemes import LayerRecord
from passionsr_cli.system.files import replace_atomically

PLAN_FILE, PICTURE_FILE = "plan.yaml", "plan.png"


def write_plan(path: Path, layer_bits: Mapping[str, str]) -> None:
    """Write `layer: w4a8` lines, as the settings' `layer_bits` are."""
    with replace_atomically(path) as temporary:
        text = yaml.safe_dump(dict(layer_bits), sort_keys=False)
        temporary.write_text(text, encoding="utf-8")


def draw_plan(path: Path, title: str, records: Sequence[LayerRecord]) -> None:
    """Draw the bits of weights and of activations along the network, a bar for each layer."""
    from matplotlib.figure import Figure

    shown = [
        record for name in COMPONENTS for record in records if component_of(record.name) == name
    ]
    places = np.arange(len(shown))
    figure = Figure(figsize=(max(8.0, 0.13 * len(shown) + 2), 8), layout="constrained")
    figure.suptitle(title)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, heights, label in (
        (upper, [_weight_bits(record) for record in shown], "bits of weights"),
        (lower, [_activation_bits(record) for record in shown], "bits of activations"),
    ):
        # 9 stands for floating point: matplotlib's colours come again after 10.
        axes.bar(places, heights, width=0.9, color=[f"C{min(bits, 9)}" for bits in heights])
        axes.set(ylabel=label, yticks=(2, 3, 4, 6, 8, FLOAT_BITS), xlim=(-1, len(shown)))
        axes.grid(axis="y", alpha=0.3)
    first = 0
    for component in dict.fromkeys(component_of(record.name) for record in shown):
        count = sum(component_of(record.name) == component for record in shown)
        # Above the frame and in the middle of its bars a name has room, however few they are.
        middle = (first + (count - 1) / 2, 1.01)
        upper.text(
            *middle, component, transform=upper.get_xaxis_transform(), fontsize=8, ha="center"
        )
        for axes in (upper, lower):
            axes.axvline(first - 0.5, color="black", linewidth=0.8)
        first += count
    lower.set_xticks(places, [record.name for record in shown], rotation=90, fontsize=5)
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _weight_bits(record: LayerRecord) -> int:
    """16 where a weight stays in floating point, 0 for an attention, which has none."""
    if record.weight is not None:
        return record.weight.num_bits
    return FLOAT_BITS if record.weight_shape else 0


def _activation_bits(record: LayerRecord) -> int:
    return FLOAT_BITS if record.activation is None else record.activation.num_bits
