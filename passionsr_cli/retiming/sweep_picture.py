"""The picture of a sweep: bars of the measured errors and theory's two curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from passionsr_cli.system.files import replace_atomically
from passionsr_cli.system.own_files import MARK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from passionsr_cli.retiming.sweep import Sweep

BAR = 0.4


def draw_sweep(path: Path, sweep: Sweep) -> None:
    """Errors of z_H and of the image over the timestep (QArtSR's histogram); PNG, SVG or PDF."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.4), layout="constrained")
    figure.suptitle(
        f"{sweep.model} (made for t = {sweep.timestep}) over the timestep: {sweep.bits} by "
        "min–max, against itself in full precision"
    )
    latent, image = figure.subplots(1, 2)
    _draw_latents(latent, sweep)
    _draw_images(image, sweep)
    figure.legend(*latent.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata=MARK)


def _draw_latents(axes: Axes, sweep: Sweep) -> None:
    places = range(len(sweep.rows))
    for shift, name, label in (
        (-BAR / 2, "unet_error", "UNet quantized"),
        (BAR / 2, "latent_error", "encoder and UNet quantized"),
    ):
        heights = [getattr(row, name) for row in sweep.rows]
        axes.bar([place + shift for place in places], heights, BAR, label=label)
    gains = [sweep.absolute * row.gain for row in sweep.rows]
    axes.plot(places, gains, "k--", label=f"absolute error of ε: {sweep.absolute:.2g}·σ/α")
    distances = [sweep.relative * row.distance for row in sweep.rows]
    label = f"relative error of ε: {sweep.relative:.2g}·‖z_L − α z_H‖/α"
    axes.plot(places, distances, "k:", label=label)
    _draw_retrained(axes, sweep, "unet_error", "none", ", UNet")
    _draw_retrained(axes, sweep, "latent_error", "full", ", both")
    axes.set(yscale="log", ylabel="error of z_H (root mean square, latent units)")
    _name_timesteps(axes, sweep)


def _draw_images(axes: Axes, sweep: Sweep) -> None:
    axes.bar(range(len(sweep.rows)), [row.image_psnr for row in sweep.rows], 2 * BAR)
    _draw_retrained(axes, sweep, "image_psnr", "full", "")
    axes.set(ylabel="PSNR of the image to full precision (dB, RGB)")
    _name_timesteps(axes, sweep)


def _draw_retrained(
    axes: Axes, sweep: Sweep, name: str, fill: Literal["full", "none"], what: str
) -> None:
    """Models at their own timesteps, where the bars of these are or would be."""
    steps = [row.timestep for row in sweep.rows]
    for number, row in enumerate(sweep.retrained):
        before = [step for step in steps if step <= row.timestep]
        place = float(len(before) - 1)
        if before and before[-1] != row.timestep:
            place += 0.5
        axes.plot(
            place,
            getattr(row, name),
            linestyle="none",
            marker="D",
            fillstyle=fill,
            color=f"C{number + 2}",
            markeredgecolor="black" if fill == "full" else None,
            label=f"{row.model} (t = {row.timestep}){what}",
        )


def _name_timesteps(axes: Axes, sweep: Sweep) -> None:
    axes.set_xticks(range(len(sweep.rows)), [str(row.timestep) for row in sweep.rows])
    axes.set(xlabel="timestep t (of the schedule)")
