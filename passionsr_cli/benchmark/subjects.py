"""What rows run, made once and put on disk: every row then starts as `passionsr upscale` does.

A random model is a model's folder, a variant in bits a checkpoint, NNCF's a folder of graphs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from passionsr_cli import methods
from passionsr_cli.calibration.bits import settings_for
from passionsr_cli.calibration.layer_plans import check_names, quantize_model
from passionsr_cli.checkpoints import checkpoints
from passionsr_cli.config import CalibrationSettings
from passionsr_cli.data.calibration_images import default_crops
from passionsr_cli.errors import StoreError
from passionsr_cli.methods.stages import LayerDesign
from passionsr_cli.models import sources
from passionsr_cli.models.one_step import OneStepModel
from passionsr_cli.quantization.convert import LayerRow, quantized_layers, set_state
from passionsr_cli.quantization.plans import State
from passionsr_cli.store import write_entry

SEED = 0


def make_random_model(model: str, folder: str) -> None:
    """A known model with the weights its layers are born with, always the same, as a folder."""
    torch.manual_seed(SEED)
    made = OneStepModel(sources.find(model).description)
    # Zeros, which it is born with, would leave nothing to round in cross-attention.
    torch.nn.init.normal_(made.context)
    sources.save(Path(folder), made, {})


def make_checkpoint(model: str, bits: str, method: str, size: int, folder: str) -> None:
    """A checkpoint at these bits, with the layers that a method makes, which has learned nothing:
    its bounds are the smallest and largest values in one crop of this size."""
    settings = settings_for(bits, None, {"model": model, "method": method})
    made = sources.load(model)
    check_names(made.description, settings)
    image = default_crops(made.description, size, 1)[0]
    rows = quantize_min_max(made, settings, methods.build(settings).design, image)
    manifest = {
        "model": {"name": model, "description": made.description.model_dump(mode="json")},
        "bits": settings.bits_name,
        "layers": [row.as_dict() for row in rows],
    }
    write_entry(Path(folder), checkpoints.KIND, manifest, checkpoints.pack_model(made))


@torch.no_grad()
def quantize_min_max(
    model: OneStepModel, settings: CalibrationSettings, design: LayerDesign, image: Tensor
) -> list[LayerRow]:
    """Quantize and freeze a model in place, its bounds the extremes in one image (B, 3, H, W).

    Speed does not depend on where bounds are, or on what a branch merged into a weight adds.
    """
    alike = replace(design, bounds_start="extremes", merged_ranks={}, rounding="nearest")
    rows = quantize_model(model, settings, alike)
    layers = list(quantized_layers(model).values())
    for layer in layers:
        layer.start_branch(scaled=False)
    set_state(layers, State.OBSERVING)
    model(image)
    for layer in layers:
        layer.start_transform(alike.exponent)
        layer.start_bounds()
        layer.freeze()
    return rows


def make_nncf_graphs(model: str, size: int, images: int, folder: str) -> None:
    """The graphs of a model, quantized by NNCF on so many crops, as a folder of graphs."""
    from passionsr_cli.conversion.graph_files import write_graphs
    from passionsr_cli.conversion.nncf_graphs import nncf_graph

    inputs = default_crops(sources.find(model).description, size, images)
    try:
        Path(folder).mkdir(parents=True)
        write_graphs(sources.load(model), Path(folder), convert=partial(nncf_graph, images=inputs))
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}") from error
