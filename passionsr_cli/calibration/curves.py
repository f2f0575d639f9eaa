"""Pictures of calibrations: loss curves, what LET did to the worst layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from passionsr_cli.checkpoints.catalogue import find_checkpoint
from passionsr_cli.checkpoints.curve_file import Row, read_curve
from passionsr_cli.errors import OutputError
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.system.files import replace_atomically
from passionsr_cli.system.own_files import MARK, check_replaceable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_FILE = "run.png"
WORST_LAYERS = 3
HISTOGRAM_BINS = 120

Histogram = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class LayerStudy:
    """Effect of LET on one layer's input, on one image.

    `error` is the input's relative squared rounding error. Extents are each channel's largest
    magnitude, histograms (counts, edges) of all values, before and after; each as a share of the
    largest magnitude of all, so that shapes can be compared.
    """

    name: str
    error: float
    channel_scale: NDArray[np.float32] | None
    extents: tuple[NDArray[np.float32], NDArray[np.float32]]
    histograms: tuple[Histogram, Histogram]
    bounds: tuple[float, float]


@torch.no_grad()
def study_layers(layers: dict[str, FrozenLayer], run: Callable[[], object]) -> list[LayerStudy]:
    """The layers whose inputs are rounded worst while `run` passes an image through them."""
    errors: dict[str, float] = {}
    studies: dict[str, LayerStudy] = {}

    def look(name: str, layer: FrozenLayer, x: Tensor) -> None:
        if not bool(x.any()):
            # Nothing there to be rounded, and no largest magnitude to draw by.
            return
        moved, rounded = layer.rounded_input(x)
        energy = moved.square().mean().clamp_min(1e-20)
        errors[name] = float((rounded - moved).square().mean() / energy)
        kept = sorted(errors, key=lambda key: -errors[key])[:WORST_LAYERS]
        if name in kept:
            studies[name] = _study(name, errors[name], layer, x, moved)

    hooks = [
        layer.register_forward_pre_hook(
            lambda module, inputs, name=name: look(name, module, inputs[0])
        )
        for name, layer in layers.items()
        if layer.input_grid is not None
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    worst = sorted(errors, key=lambda key: -errors[key])[:WORST_LAYERS]
    return [studies[name] for name in worst]


def _study(name: str, error: float, layer: FrozenLayer, x: Tensor, moved: Tensor) -> LayerStudy:
    assert layer.input_grid is not None
    bounds = layer.input_grid.nudged_bounds()
    lower, upper = (float(bound / moved.abs().max()) for bound in bounds)
    scale = layer.channel_scale
    pair = [_channels_last(layer, tensor / tensor.abs().max()) for tensor in (x, moved)]
    before, after = (np.histogram(values, HISTOGRAM_BINS) for values in pair)
    extents = [np.abs(values).max(axis=0) for values in pair]
    return LayerStudy(
        name,
        error,
        None if scale is None else scale.cpu().numpy(),
        (extents[0], extents[1]),
        ((before[0], before[1]), (after[0], after[1])),
        (lower, upper),
    )


def _channels_last(layer: FrozenLayer, x: Tensor) -> NDArray[np.float32]:
    values = x.movedim(layer.product.channel_axis, -1).flatten(0, -2)
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array


def draw_run(path: Path, title: str, rows: Sequence[Row], stages: Any, studies: Any) -> None:
    """One calibration: its losses, and for the worst layers what LET did."""
    from matplotlib.figure import Figure

    count = len(studies)
    height = 4 + 3 * count
    figure = Figure(figsize=(13, height))
    figure.suptitle(title)
    # A layout found by drawing it all twice would take as long as a small calibration.
    margins = {"left": 0.06, "right": 0.98, "bottom": 0.6 / height, "top": 1 - 0.6 / height}
    grid = figure.add_gridspec(1 + count, 6, **margins, wspace=0.8, hspace=0.4)
    _draw_losses(figure.add_subplot(grid[0, :3]), rows)
    _draw_quality(figure.add_subplot(grid[0, 3:]), [(title, stages)])
    for place, study in enumerate(studies, 1):
        axes = [figure.add_subplot(grid[place, 2 * i : 2 * i + 2]) for i in range(3)]
        _draw_study(axes, study)
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)


def compare(names: Sequence[str], picture: Path) -> None:
    """Draw several calibrations' curves over each other (PassionSR, figure 5)."""
    if picture.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise OutputError(f"{picture}: pictures are .png, .svg or .pdf")
    check_replaceable(picture)
    entries = [find_checkpoint(name) for name in names]
    drawn = [(e.name, read_curve(e.folder), e.manifest.stages) for e in entries]
    try:
        draw_comparison(picture, drawn)
    except OSError as error:
        raise OutputError(f"cannot write {picture}: {error.strerror or error}") from error


def draw_comparison(path: Path, runs: Sequence[tuple[str, Sequence[Row], Any]]) -> None:
    """Several calibrations' losses and quality over time (PassionSR, figure 5)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, rows, _ in runs:
        _draw_losses(left, rows, name)
    _draw_quality(right, [(name, stages) for name, _, stages in runs])
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata=MARK)


def _draw_losses(axes: Axes, rows: Sequence[Row], run: str = "") -> None:
    """Relative squared error of each stage's output over the run's time."""
    color = None
    for stage in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == stage]
        times, losses = [row[2] for row in own], [row[3] for row in own]
        label = (run if color is None else None) if run else stage
        line = axes.plot(times, losses, label=label, color=color)[0]
        if run:
            color = line.get_color()
            axes.annotate(stage, (times[-1], losses[-1]), fontsize=7)
    axes.set(yscale="log", xlabel="seconds", ylabel="relative squared error of the output")
    if rows:
        axes.legend(fontsize=8)


def _draw_quality(axes: Axes, runs: Sequence[tuple[str, Any]]) -> None:
    """PSNR of the whole model to the full-precision image after each stage."""
    for name, stages in runs:
        ends = np.cumsum([stage.seconds for stage in stages])
        values = [np.nan if stage.image_psnr is None else stage.image_psnr for stage in stages]
        axes.plot(ends, values, marker="o", label=name)
        if len(runs) == 1:
            for stage, end, value in zip(stages, ends, values, strict=True):
                axes.annotate(stage.name, (end, value), fontsize=7)
    axes.set(xlabel="seconds", ylabel="dB to the full-precision image")
    axes.grid(alpha=0.3)
    if len(runs) > 1:
        axes.legend(fontsize=8)


def _draw_study(axes: Sequence[Axes], study: LayerStudy) -> None:
    before, after = study.extents
    axes[0].plot(np.sort(before)[::-1], label="max|X|")
    axes[0].plot(np.sort(after)[::-1], label="max|X̃|")
    axes[0].set(yscale="log", xlabel="channels, sorted; share of the largest")
    axes[0].set_title(study.name, fontsize=9)
    axes[0].legend(fontsize=8)
    if study.channel_scale is not None:
        axes[1].hist(study.channel_scale, bins=40)
    axes[1].set(xlabel="channel scale s" if study.channel_scale is not None else "no channel scale")
    for (counts, edges), label in zip(study.histograms, ("X", "X̃"), strict=True):
        axes[2].stairs(np.maximum(counts, 0.5), edges, label=label)
    for bound in study.bounds:
        axes[2].axvline(bound, color="black", linewidth=0.8, linestyle=":")
    axes[2].set(yscale="log", xlabel="values, share of the largest; dotted: bounds")
    axes[2].set_title(f"rounding error {study.error:.1%}", fontsize=9)
    axes[2].legend(fontsize=8)
