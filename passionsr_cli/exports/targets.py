"""Limits of the runtimes that an export may be meant for."""

from __future__ import annotations

from passionsr_cli.errors import ConfigError
from passionsr_cli.layers.convert import Frozen, frozen_layers
from passionsr_cli.layers.frozen import FrozenLayer
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.affine import Grid


def refuse_zero_points(model: OneStepModel) -> None:
    """Raise `ConfigError` if a rounded input has a zero point, as TensorRT cannot run it."""
    found = [
        f"{name} ({place})"
        for name, layer in frozen_layers(model).items()
        for place, grid in _activation_grids(layer)
        if not grid.scheme.symmetric
    ]
    if found:
        raise ConfigError(
            f"TensorRT takes zero points of 0 alone, but {len(found)} grids have others, such as "
            f"that of {found[0]}; calibrate with `--config symmetric` and export that"
        )


def _activation_grids(layer: Frozen) -> list[tuple[str, Grid]]:
    if not isinstance(layer, FrozenLayer):
        return list(layer.grids.items())
    grids = [("input", layer.input_grid)]
    if layer.weight_grid is not None and layer.weight_grid.scheme.num_bits == 8:
        # Those below 8 bits fit int8 without their zero point.
        grids.append(("weight", layer.weight_grid))
    return [(place, grid) for place, grid in grids if grid is not None]
